#!/usr/bin/env bash
# Makes the virtual environment of one stack, and does only what is missing.
#
#   tools/dev/setup_env.sh               set up
#   tools/dev/setup_env.sh --check-only  only check this machine, install nothing
#
# Environment: STACK (upstream or onedl), PYTHON (python3), MAX_JOBS (compiler
# processes), AIB_WHEEL_CACHE (where the built mmcv is kept). See docs/installation.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

STACK=${STACK:-upstream}
PYTHON=${PYTHON:-python3}
NEED_GIB=10
STEPS=6

case $STACK in
  upstream) VENV=.venv MMCV=mmcv ;;
  onedl) VENV=.venv-onedl MMCV=onedl-mmcv ;;
  *) echo "error: STACK is '$STACK': use STACK=upstream or STACK=onedl" >&2; exit 2 ;;
esac
LOCK=requirements/lock-$STACK.txt
LOG=.setup-$STACK.log
STAMP=$VENV/.aib-setup
CACHE=${AIB_WHEEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aib_mm/wheels}
VPYTHON=$PWD/$VENV/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

# ------------------------------------------------------------------ the machine
problems=0
problem() {
  echo "error: $1" >&2
  problems=$((problems + 1))
}

check_python() {
  if ! command -v "$PYTHON" >/dev/null; then
    problem "$PYTHON not found: install Python 3.10-3.12 (Debian: apt-get install\
 python3 python3-venv python3-dev), or name one: PYTHON=python3.11 make setup"
    return
  fi
  local version
  version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  case $version in
    3.10 | 3.11 | 3.12) ;;
    *)
      problem "$PYTHON is Python $version, the pinned stack needs 3.10, 3.11 or 3.12:\
 name one with PYTHON=python3.11 make setup"
      return
      ;;
  esac
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    problem "$PYTHON has no venv module: Debian: apt-get install python$version-venv"
  [ -f "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
    problem "Python.h not found, mmcv cannot be built without it: Debian: apt-get\
 install python$version-dev"
}

check_compilers() {
  local tool
  for tool in "${CC:-gcc}" "${CXX:-g++}"; do
    command -v "$tool" >/dev/null ||
      problem "compiler $tool not found, mmcv's ops are built here: Debian: apt-get\
 install build-essential"
  done
}

check_disk() {
  local free
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge "$NEED_GIB" ] ||
    problem "$free GiB free in $PWD, the set-up needs $NEED_GIB GiB: free some space or\
 clone to a larger disk"
}

check_machine() {
  check_python
  check_compilers
  check_disk
  [ "$problems" -eq 0 ] || exit 1
}

# --------------------------------------------------------------------- progress
say() { echo "[$1/$STEPS] $2"; }

stop_job() {
  if [ -n "${job:-}" ]; then kill -- "-$job" 2>/dev/null || true; fi
}
trap 'stop_job; exit 130' INT TERM HUP

# run_logged STEP TEXT COMMAND...: runs COMMAND with its output in the log, and shows
# that it is alive: once a second on a terminal, else every half minute.
run_logged() {
  local step=$1 text=$2 started=$SECONDS status=0 tick=30 last=0 mark
  shift 2
  [ -t 1 ] && tick=1
  say "$step" "$text ..."
  printf '\n== %s: %s\n' "$(date -u +%FT%TZ)" "$*" >>"$LOG"
  mark=$(wc -l <"$LOG")
  set -m  # a process group of its own, so that an interrupt ends its children too
  "$@" >>"$LOG" 2>&1 </dev/null &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - started - last)) -ge "$tick" ]; then
      last=$((SECONDS - started))
      show_progress "$step" "$text" "$last" "$mark"
    fi
  done
  wait "$job" || status=$?
  job=
  [ -t 1 ] && printf '\r\033[K'
  if [ "$status" -ne 0 ]; then
    # What went wrong is rarely in the last lines: pip tidies up after a failure.
    tail -n "+$mark" "$LOG" | grep -aiE '\b(error|fatal|killed|no space)' |
      cut -c1-200 | head -n 15 >&2 || true
    echo "... the end of $LOG:" >&2
    tail -n 15 "$LOG" >&2
    echo "error: '$text' failed, see above. 'make setup' goes on from here" >&2
    exit 1
  fi
  say "$step" "$text: $((SECONDS - started)) s"
}

show_progress() {
  local at line
  # ninja counts the compiled files as [1/4]; pip names what it fetches, and its size.
  at=$(tail -n "+$4" "$LOG" | tail -n 300 | grep -aoE \
    '^ *\[[0-9]+/[0-9]+\]|^ *Downloading [^ ]+ \([^)]+\)|^Installing collected' |
    tail -n 1 | sed -E 's/^ *\[/file [/; s/^ *D/d/; s/^I/i/; s/ collected//' || true)
  line="[$1/$STEPS] $2 ... $3 s${at:+, $at}"
  if [ -t 1 ]; then printf '\r\033[K%s' "${line:0:${COLUMNS:-100}}"; else echo "$line"; fi
}

# ------------------------------------------------------------------------ steps
fingerprint() {
  # The checkout's path is part of it: an environment does not survive a move.
  { echo "$PWD $STACK"; cat "$LOCK" requirements/build.txt setup.py tools/dev/{setup_env.sh,group_sources.py}; } |
    sha256sum | cut -d' ' -f1
}

is_ready() { [ "$(cat "$STAMP" 2>/dev/null)" = "$1" ] && [ -x "$VPYTHON" ]; }

pip_install() { "$VPYTHON" -m pip install --progress-bar off --no-deps "$@"; }

make_venv() {
  local version='import sys; print("%d.%d" % sys.version_info[:2])' have want
  if "$VPYTHON" -m pip --version >/dev/null 2>&1; then
    have=$("$VPYTHON" -c "$version") want=$("$PYTHON" -c "$version")
    if [ "$have" != "$want" ]; then
      echo "error: $VENV holds Python $have and $PYTHON is Python $want: rm -rf $VENV" >&2
      exit 1
    fi
    say 2 "virtual environment $VENV: there"
    return
  fi
  run_logged 2 "virtual environment $VENV" "$PYTHON" -m venv --clear "$VENV"
}

install_stack() {
  # pip first: the others are installed by the pinned one.
  pip_install "$(grep -oE '^pip==[^ ]+' requirements/build.txt)"
  # mmcv comes from the wheel cache; here pip would build one without ops.
  grep -vE "^$MMCV==" "$LOCK" >"$VENV/lock.txt"
  pip_install -r "$VENV/lock.txt"
  # The same cv2 without libGL, over the one that the other packages ask for.
  local headless
  headless=$(grep -E '^opencv-python-headless==' "$LOCK")
  cv2_is_headless || pip_install --force-reinstall "$headless"
}

cv2_is_headless() {
  "$VPYTHON" -c "
import re, sys
import cv2
sys.exit(not re.search(r'GUI: +NONE', cv2.getBuildInformation()))" 2>/dev/null
}

# Its version, and three of its ops run once.
mmcv_works() { # VERSION
  "$VPYTHON" - "$MMCV" "$1" >>"$LOG" 2>&1 <<'PY'
import importlib.metadata, sys
import torch
from mmcv.ops import DeformConv2dPack, nms, roi_align
package, version = sys.argv[1:]
assert importlib.metadata.version(package) == version
boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 7, 7]])
assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist() == [0, 2]
ones = torch.ones(1, 2, 8, 8)
assert roi_align(ones, torch.tensor([[0.0, 1, 1, 5, 5]]), (2, 2)).eq(1).all()
assert DeformConv2dPack(2, 3, 3)(ones).shape == (1, 3, 6, 6)
PY
}

compiler_jobs() {
  # About 2 GiB a compiler process.
  awk -v cores="$(nproc)" '/^MemAvailable/ { jobs = int($2 / 2097152) }
    END { if (jobs > cores) jobs = cores; print (jobs < 1 ? 1 : jobs) }' /proc/meminfo
}

build_mmcv() { # VERSION FOLDER
  made=$(mktemp -d "$2.XXXXXX")
  trap 'rm -rf "$made"' EXIT  # also after an interrupt
  export MAX_JOBS=${MAX_JOBS:-$(compiler_jobs)} CFLAGS="-O2 -g0 ${CFLAGS:-}"
  # Any CFLAGS take the place of Python's own, -O3 among them. -g0: debugging symbols
  # would make the build slower and the wheel 20 times as large.
  local pip=(--no-build-isolation --no-deps --no-cache-dir)
  "$VPYTHON" -m pip download "${pip[@]}" --no-binary "$MMCV" --dest "$made" "$MMCV==$1"
  mkdir "$made/source"
  tar -xf "$made"/*.tar.gz -C "$made/source" --strip-components=1
  cp -r "$made/source" "$made/grouped"
  "$VPYTHON" tools/dev/group_sources.py "$made/grouped"
  pip=(-m pip wheel -v "${pip[@]}" --wheel-dir "$made")
  if ! "$VPYTHON" "${pip[@]}" "$made/grouped"; then
    echo "$MMCV's files do not compile in groups: now each by itself"
    "$VPYTHON" "${pip[@]}" "$made/source"
  fi
  # mv is atomic: a wheel in the cache is always whole.
  mkdir -p "$2"
  mv "$made"/*.whl "$2"/
}

install_mmcv() {
  local version key folder wheel
  version=$(sed -nE "s/^$MMCV==([^ ]+).*/\1/p" "$LOCK")
  # pip's own cache would reuse a wheel built for another torch.
  key=$("$VPYTHON" - <<'PY'
import shutil, sys, sysconfig
import torch
ops = 'cuda' if torch.cuda.is_available() and shutil.which('nvcc') else 'cpu'
python = f'cp{sys.version_info.major}{sys.version_info.minor}'
print(f'torch{torch.__version__}-{python}-{sysconfig.get_platform()}-{ops}-O2')
PY
  )
  if [ "$(cat "$VENV/.aib-mmcv" 2>/dev/null || echo "$version $key")" = "$version $key" ] &&
    mmcv_works "$version"; then
    echo "$version $key" >"$VENV/.aib-mmcv"
    say 4 "$MMCV $version with its ops: there"
    return
  fi
  folder=$CACHE/$key
  wheel=$(compgen -G "$folder/${MMCV//-/_}-$version-*.whl" | head -n 1 || true)
  if [ -z "$wheel" ]; then
    mkdir -p "$CACHE"
    # A GPU without nvcc: mmcv would try to build CUDA ops and fail.
    case $key in *-cpu-O2) export CUDA_VISIBLE_DEVICES= ;; esac
    run_logged 4 "building $MMCV $version with its ops (2-3 min on 2 cores)" \
      build_mmcv "$version" "$folder"
    wheel=$(compgen -G "$folder/${MMCV//-/_}-$version-*.whl" | head -n 1)
  fi
  run_logged 4 "$MMCV $version from $folder" pip_install --force-reinstall "$wheel"
  mmcv_works "$version" || {
    echo "error: $wheel does not load: remove it and run 'make setup' again" >&2
    exit 1
  }
  echo "$version $key" >"$VENV/.aib-mmcv"
}

install_aib_mm() {
  case $STACK in
    # setup.py's own editable install: pkg_resources, and so mim, finds this checkout.
    upstream) pip_install --no-build-isolation --no-use-pep517 -e . ;;
    onedl) pip_install --no-build-isolation -e . ;;
  esac
}

set_up() {
  local started=$SECONDS stamp
  stamp=$(fingerprint)
  is_ready "$stamp" && return
  exec 9>>"$LOG"
  if ! flock -n 9; then
    echo "waiting for another set-up of this checkout"
    flock 9
    is_ready "$stamp" && return
  fi
  rm -f "$STAMP"
  say 1 "checking this machine ($STACK stack, $("$PYTHON" -V 2>&1 || true))"
  check_machine
  make_venv
  run_logged 3 "pinned stack of $LOCK (2-3 GB to download)" install_stack
  install_mmcv
  run_logged 5 "aib_mm, editable" install_aib_mm
  run_logged 6 "pip check" "$VPYTHON" -m pip check
  echo "$stamp" >"$STAMP"
  local stack=
  [ "$STACK" = upstream ] || stack="STACK=$STACK "
  echo "$VENV is ready after $((SECONDS - started)) s. Next:"
  echo "  ${stack}make demo  trains, compares and draws small models"
  echo "  ${stack}make test  runs the tests"
}

case ${1:-} in
  '') set_up ;;
  --check-only) check_machine && echo "this machine can be set up" ;;
  *) echo "error: unknown option $1: the only one is --check-only" >&2; exit 2 ;;
esac

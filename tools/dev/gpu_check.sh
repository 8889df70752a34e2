#!/usr/bin/env bash
# A check on a GPU in one command and under six minutes; the last thing that it prints
# is one JSON object: steps with their exit codes and seconds, training steps in every
# precision, images a second of the full-size models beside the vanilla ones. The exit
# code is 0 only if every step went well and nothing was left out.
#
#   tools/dev/gpu_check.sh          check; also on a CPU, as far as that goes
#   tools/dev/gpu_check.sh --pack   with a network: what a machine without one lacks,
#                                   as wheels and mmcv's source in .gpu/, to take along
#
# Environment: PYTHON (.venv's, else python3), BUDGET (seconds, 350), TINY=1 (narrow
# models, to try it on a CPU), TARGET (Python of --pack, 3.12), OUT (folder of the
# results, a new one). mmcv's CUDA ops, which detector and segmentor need, are compiled
# where nvcc is; if time runs out first, these two are left out, and that is said.
set -euo pipefail
cd "$(dirname "$0")/../.."

PACK=.gpu
BUDGET=${BUDGET:-350}
TARGET=${TARGET:-3.12}
RESERVE=150 # seconds that the steps after the compilation need
# Of the lock, what a machine with torch, timm and scikit-image is seen to lack.
NAMES='addict captum coloredlogs ftfy grad-cam humanfriendly importlib-metadata
lazy-importer mat4py mlxtend mmdet mmengine mmpretrain mmsegmentation model-index
modelindex ordered-set platformdirs prettytable pycocotools pytz setuptools shapely
termcolor terminaltables ttach tzdata wcwidth yapf'

pack() {
  local python=${PYTHON:-.venv/bin/python} name lines=()
  for name in $NAMES; do # of several versions the last is for the newest Python
    lines+=("$(sed -n "s/^\($name==[^ ;]*\).*/\1/p" requirements/lock-upstream.txt |
      tail -n 1)")
  done
  mkdir -p "$PACK"
  # --no-deps is what lets pip take sources too, of what has no wheel.
  "$python" -m pip download -q --no-deps --dest "$PACK" --python-version "$TARGET" \
    --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "${lines[@]}"
  # Its wheels are for other versions of torch.
  "$python" -m pip download -q --no-deps --no-binary=:all: --no-build-isolation \
    --dest "$PACK" "$(grep -E '^mmcv==' requirements/lock-upstream.txt)"
  du -sh "$PACK"
}

if [ "${1:-}" = --pack ]; then
  pack
  exit
fi

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
OUT=${OUT:-$(mktemp -d)}
SITE=$OUT/site
STEPS=$OUT/steps.jsonl
mkdir -p "$OUT"
: >"$STEPS"
export PYTHONPATH=$SITE:$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}

left() { echo $((BUDGET - SECONDS)); }

# step NAME COMMAND...: runs it within the time that is left, with a log in $OUT; its
# failure is noted and stops nothing.
step() {
  local name=$1 started=$SECONDS code=0 limit
  shift
  limit=$(left)
  if [ "$limit" -le 5 ]; then
    code=124
    echo 'no time left' >"$OUT/$name.log"
  else
    timeout "$limit" "$@" >"$OUT/$name.log" 2>&1 </dev/null || code=$?
  fi
  printf '{"step": "%s", "code": %d, "seconds": %d}\n' "$name" "$code" \
    $((SECONDS - started)) >>"$STEPS"
  echo "$name: code $code, $((SECONDS - started)) s" >&2
  [ "$code" -eq 0 ] || tail -n 5 "$OUT/$name.log" >&2
  return 0
}

has_packages() { "$PYTHON" -c 'import mmpretrain, mlxtend' 2>/dev/null; }

# Whether mmcv's ops run on this machine's device.
has_ops() {
  "$PYTHON" - 2>/dev/null <<'END'
import torch
from mmcv.ops import nms
device = 'cuda' if torch.cuda.is_available() else 'cpu'
nms(torch.rand(4, 4, device=device), torch.rand(4, device=device), 0.5)
END
}

install=("$PYTHON" -m pip install -q --no-index --no-deps --no-build-isolation
  --target "$SITE" --upgrade)

compile_ops() {
  local source=$OUT/mmcv
  mkdir -p "$source"
  tar -xzf "$PACK"/mmcv-*.tar.gz -C "$source" --strip-components=1
  "$PYTHON" tools/dev/group_sources.py "$source"
  MMCV_WITH_OPS=1 FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=$1 MAX_JOBS=$(nproc) \
    "${install[@]}" "$source"
}

if ! has_packages; then
  if [ ! -d "$PACK" ]; then
    echo "gpu_check.sh: $PYTHON has no mmpretrain or mlxtend, and there is no $PACK/:" \
      'make setup, or bring it from tools/dev/gpu_check.sh --pack' >&2
    exit 2
  fi
  step wheels "${install[@]}" "$PACK"/*.whl
  # With the setuptools that came along; mmcv without ops first.
  step sources env MMCV_WITH_OPS=0 "${install[@]}" "$PACK"/*.tar.gz
fi
cuda=$("$PYTHON" -c 'import torch
if torch.cuda.is_available(): print("%d.%d" % torch.cuda.get_device_capability())')
job=
if [ -n "$cuda" ] && ! has_ops && [ -d "$PACK" ] && command -v nvcc >/dev/null; then
  set -m # a process group of its own, so that its compilers end with it
  (compile_ops "$cuda") >"$OUT/compile.log" 2>&1 </dev/null &
  job=$!
  set +m
fi

# What needs no compiled op, meanwhile.
kind=(-k cuda --runslow)
[ -n "$cuda" ] || kind=(-k cpu)
step device_tests "$PYTHON" -m pytest -q -p no:cacheprovider "${kind[@]}" \
  tests/test_precision.py tests/test_quantizer.py
if [ -n "$job" ]; then
  while kill -0 "$job" 2>/dev/null && [ "$(left)" -gt "$RESERVE" ]; do sleep 1; done
  kill -- "-$job" 2>/dev/null || true
fi

tiny=() skip=()
[ -n "${TINY:-}" ] && tiny=(--tiny)
has_ops || skip=(--skip detection segmentation)
step training_steps "$PYTHON" tools/dev/gpu_steps.py "$OUT/training.json" \
  "${tiny[@]}" "${skip[@]}"

# bench NAME HEIGHT WIDTH BATCH SAMPLES VANILLA OURS...: images a second.
bench() {
  local name=$1 size=("$2" "$3") batch=$4 samples=$5
  shift 5
  step "bench_$name" "$PYTHON" tools/benchmark.py "${@/#/configs/}" \
    --size "${size[@]}" --batch "$batch" --samples "$samples" --rounds "${ROUNDS:-5}" \
    --out "$OUT/bench_$name.json"
}

if [ -n "${TINY:-}" ]; then
  ROUNDS=1
  bench vgg 32 32 2 4 mmpretrain/vgg16-narrow{,_aib}_digitscenes.py
  bench wrn 32 32 2 4 mmpretrain/wrn16-narrow{,_aib}_digitscenes.py
  segmentor=(64 64 2 2 mmseg/upernet_beit-narrow{,_aib}_digitscenes.py)
  detector=(128 128 1 4 mmdet/faster_rcnn_r18-narrow{,_aib}_digitscenes.py)
else
  bench vgg 32 32 128 4 mmpretrain/vgg16{,_aib,_aib_qt}_cifar10.py
  bench wrn 32 32 128 4 mmpretrain/wrn28-10{,_aib,_aib_qt}_cifar10.py
  segmentor=(512 512 2 2 mmseg/upernet_beit{,_aib,_aib_qt}.py)
  detector=(800 1088 2 4 mmdet/faster_rcnn_r50{,_aib,_aib_qt}.py)
fi
if [ "${#skip[@]}" -eq 0 ]; then
  bench segmentation "${segmentor[@]}"
  bench detection "${detector[@]}"
fi

"$PYTHON" - "$OUT" "$SECONDS" "${skip[*]}" <<'END'
import json
import sys
from pathlib import Path
from statistics import median

import torch

out, seconds, skipped = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def read(path):
    return json.loads(path.read_text()) if path.is_file() else None


def speeds(path):
    return [
        {'config': one['config'], 'mode': mode['mode'],
         'images/s': round(median(mode['throughput']), 1)}
        for one in read(path)['configs'] for mode in one['modes']
    ]


steps = [json.loads(line) for line in (out / 'steps.jsonl').read_text().splitlines()]
tests = (out / 'device_tests.log').read_text().strip().splitlines()
report = dict(
    device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
    torch=torch.__version__,
    seconds=seconds,
    ok=all(not step['code'] for step in steps) and not skipped,
    left_out=skipped and 'detection, segmentation: mmcv has no ops for this device',
    steps=steps,
    device_tests=tests[-1] if tests else '',
    training_steps=read(out / 'training.json') or [],
    images_per_second={
        path.stem.removeprefix('bench_'): speeds(path)
        for path in sorted(out.glob('bench_*.json'))
    },
)
(out / 'gpu_check.json').write_text(json.dumps(report, indent=1))
print(json.dumps(report, indent=1))
raise SystemExit(not report['ok'])
END

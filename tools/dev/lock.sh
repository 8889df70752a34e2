#!/usr/bin/env bash
# Makes requirements/lock-*.txt anew from the short requirement files beside them.
# Needs uv (pip install uv), which resolves for all Pythons at once; its settings are
# [tool.uv] in pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/../.."

# lock NAME FIRST_PYTHON WHAT FILE...: resolves the files, from that Python on to 3.12.
lock() {
  local lock="requirements/lock-$1.txt" python=$2 what=$3 resolved
  shift 3
  resolved=$(uv pip compile --universal --python-version "$python" --no-header \
    --no-annotate --quiet "$@")
  {
    echo "# Every package of $what, exactly; made by tools/dev/lock.sh."
    # The markers common to all lines say only what the set-up checks itself.
    sed -e "s/ and platform_machine == 'x86_64' and sys_platform == 'linux'//" \
      -e "s/ ; python_full_version < '3.13'\$//" \
      -e "s/ and python_full_version < '3.13'\$//" <<<"$resolved"
  } >"$lock.new"
  mv "$lock.new" "$lock"
  echo "$lock: $(grep -c == "$lock") lines"
}

for stack in upstream onedl; do
  lock "$stack" 3.10 "the $stack stack" requirements/{"$stack",demo,test,build}.txt
done
# Over the stack's own versions. Its Markdown parser needs Python 3.11.
lock docs 3.11 'the documentation' requirements/docs.txt \
  -c requirements/lock-upstream.txt

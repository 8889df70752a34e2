#!/usr/bin/env bash
# Makes requirements/lock-*.txt anew from the short requirement files beside them.
# Needs uv (pip install uv), which resolves for Python 3.10, 3.11 and 3.12 at once;
# its settings are [tool.uv] in pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/../.."

for stack in upstream onedl; do
  lock="requirements/lock-$stack.txt"
  resolved=$(uv pip compile --universal --python-version 3.10 --no-header \
    --no-annotate --quiet "requirements/$stack.txt" requirements/demo.txt \
    requirements/test.txt requirements/build.txt)
  {
    echo "# Every package of the $stack stack, exactly; made by tools/dev/lock.sh."
    # The markers common to all lines say only what the set-up checks itself.
    sed -e "s/ and platform_machine == 'x86_64' and sys_platform == 'linux'//" \
      -e "s/ ; python_full_version < '3.13'\$//" \
      -e "s/ and python_full_version < '3.13'\$//" <<<"$resolved"
  } >"$lock.new"
  mv "$lock.new" "$lock"
  echo "$lock: $(grep -c == "$lock") lines"
done

#!/usr/bin/env bash
# Test in several processes: one per GPU, or on the CPU where there is no GPU.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [options of test.py ...]" >&2
    exit 2
fi

CONFIG=$1
CHECKPOINT=$2
GPUS=$3
if [[ ! -f $CONFIG ]]; then
    echo "error: config $CONFIG does not exist; give the path of a config file" >&2
    exit 2
fi
if [[ $CHECKPOINT != *://* && ! -f $CHECKPOINT ]]; then
    echo "error: checkpoint $CHECKPOINT does not exist; give the path of a file" >&2
    exit 2
fi
HERE=$(dirname "${BASH_SOURCE[0]}")
exec bash "$HERE/dist_run.sh" "$HERE/test.py" "$GPUS" \
    "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"

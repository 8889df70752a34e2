#!/usr/bin/env bash
# Train in several processes: one per GPU, or on the CPU where there is no GPU.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: $0 CONFIG GPUS [options of train.py ...]" >&2
    exit 2
fi

CONFIG=$1
GPUS=$2
if [[ ! -f $CONFIG ]]; then
    echo "error: config $CONFIG does not exist; give the path of a config file" >&2
    exit 2
fi
HERE=$(dirname "${BASH_SOURCE[0]}")
exec bash "$HERE/dist_run.sh" "$HERE/train.py" "$GPUS" \
    "$CONFIG" --launcher pytorch "${@:3}"

#!/usr/bin/env bash
# Train under slurm. The environment variables are explained in slurm_run.sh.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [WORK_DIR] [options of train.py ...]" >&2
    exit 2
fi

PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3
# mmpretrain and mmdet have WORK_DIR here, mmseg does not.
if [[ $# -gt 0 && $1 != -* ]]; then
    set -- --work-dir "$@"
fi
HERE=$(dirname "${BASH_SOURCE[0]}")
exec bash "$HERE/slurm_run.sh" "$PARTITION" "$JOB_NAME" "$HERE/train.py" "$CONFIG" "$@"

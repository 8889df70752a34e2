#!/usr/bin/env bash
# Test under slurm. The environment variables are explained in slurm_run.sh.
set -euo pipefail

if [[ $# -lt 4 ]]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py ...]" >&2
    exit 2
fi

PARTITION=$1
JOB_NAME=$2
HERE=$(dirname "${BASH_SOURCE[0]}")
exec bash "$HERE/slurm_run.sh" "$PARTITION" "$JOB_NAME" "$HERE/test.py" "${@:3}"

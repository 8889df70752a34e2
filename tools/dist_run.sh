#!/usr/bin/env bash
# Run a Python program in several processes with torchrun; dist_train.sh and
# dist_test.sh call it:
#   dist_run.sh PROGRAM PROCESSES [ARGUMENTS ...]
#
# Environment:
#   NNODES, NODE_RANK, MASTER_ADDR, PORT   several machines, or a port of your choice;
#                                          one machine picks a free port by itself
#   OMP_NUM_THREADS, MKL_NUM_THREADS       default: cores / processes
#   PYTHON                                 default: python
set -euo pipefail

PROGRAM=$1
PROCESSES=$2
shift 2

if ! [[ $PROCESSES =~ ^[1-9][0-9]*$ ]]; then
    echo "error: the number of processes must be a positive integer, got '$PROCESSES'" >&2
    exit 2
fi

NNODES=${NNODES:-1}
if [[ -z ${OMP_NUM_THREADS:-} ]]; then
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    threads=$((cores / PROCESSES))
    export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
fi
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

if [[ $NNODES == 1 && -z ${PORT:-} ]]; then
    rendezvous=(--standalone)
else
    rendezvous=(
        --nnodes="$NNODES"
        --node-rank="${NODE_RANK:-0}"
        --master-addr="${MASTER_ADDR:-127.0.0.1}"
        --master-port="${PORT:-29500}"
    )
fi

exec "${PYTHON:-python}" -m torch.distributed.run \
    "${rendezvous[@]}" --nproc-per-node="$PROCESSES" "$PROGRAM" "$@"

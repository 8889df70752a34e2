#!/usr/bin/env bash
# Run a Python program under slurm; slurm_train.sh and slurm_test.sh call it:
#   slurm_run.sh PARTITION JOB_NAME PROGRAM [ARGUMENTS ...]
#
# Environment:
#   GPUS            processes in all (default 8)
#   GPUS_PER_NODE   processes on each node (default: GPUS, at most 8)
#   CPUS_PER_TASK   cores for each process (default 5)
#   GRES            default gpu:GPUS_PER_NODE; set it empty for nodes without GPU
#   SRUN_ARGS       further options of srun
#   MASTER_PORT     default: random, so that two jobs on one node do not collide
#   PYTHON          default: python
set -euo pipefail

PARTITION=$1
JOB_NAME=$2
PROGRAM=$3
shift 3

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
GRES=${GRES-gpu:$GPUS_PER_NODE}
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 10000))}
# Unquoted below on purpose: SRUN_ARGS holds several options.
SRUN_ARGS=${SRUN_ARGS:-}

set -x
# shellcheck disable=SC2086
exec srun -p "$PARTITION" \
    --job-name="$JOB_NAME" \
    ${GRES:+--gres="$GRES"} \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    $SRUN_ARGS \
    "${PYTHON:-python}" -u "$PROGRAM" "$@" --launcher slurm

#!/bin/bash
# Trains under SLURM, here on 2 machines with 4 GPUs each, for as many jobs as it takes:
#
#   sbatch scripts/slurm_train.sh --config casia_deepcnet [options of spcnn fit]
#
# Two minutes before its time is over a job saves its state, asks for another turn and ends. The next
# turn has the same number, finds the checkpoint in the folder of that number and goes on with the
# next batch. RUN=folder goes on in a folder of an earlier job.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=SIGUSR1@120
set -euo pipefail
run=${RUN:-runs/$SLURM_JOB_ID}
resume=()
# Of the logger that a config names, or of none.
if compgen -G "$run/lightning_logs/*/checkpoints/last.ckpt" >/dev/null ||
  [ -e "$run/checkpoints/last.ckpt" ]; then
  resume=(--ckpt_path last)
fi
# srun itself does not take the cores of a task over from sbatch.
exec srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" spcnn fit "$@" \
  --trainer.default_root_dir "$run" --trainer.num_nodes "$SLURM_NNODES" \
  --trainer.devices "$SLURM_NTASKS_PER_NODE" ${resume[@]+"${resume[@]}"}

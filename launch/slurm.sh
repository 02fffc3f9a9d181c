#!/usr/bin/env bash
# Trains on several nodes under Slurm, one process per GPU:
#   sbatch launch/slurm.sh --config=configs/miavsr.py --workdir=/shared/runs/mia
# Run the same command again to resume an interrupted run. --requeue does so automatically after a
# failed node or a preemption; SIGTERM comes 120 seconds before, in time to save.
#SBATCH --job-name=jaxvsr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# Each process sees its own GPU. JAX finds the other processes by Slurm's variables.
srun --kill-on-bad-exit=1 --wait=60 \
    python -m jaxvsr.main --distributed "$@"

#!/usr/bin/env bash
# Seeds of a scenario as a job array, one simulated run each: sbatch slurm_seeds.sh ring_16.toml
# A task that was stopped by its time limit, or requeued, continues from its last checkpoint.
# When all are done: p2pfrl report runs/seed-* --out runs/all
#SBATCH --job-name=p2pfrl
#SBATCH --array=0-9
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
set -euo pipefail
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
seed=$SLURM_ARRAY_TASK_ID
run=runs/seed-$seed
if [ -e "$run/summary.json" ]; then
    echo "$run is done"
elif [ -d "$run/checkpoints" ]; then
    exec srun "${PYTHON:-python}" -m p2pfrl scenario --resume "$run" --quiet
else
    exec srun "${PYTHON:-python}" -m p2pfrl scenario "$1" --seed "$seed" --out "$run" --overwrite --quiet
fi

#!/usr/bin/env bash
# One scenario as peers on several nodes, one process per node: sbatch slurm_peers.sh ring_16.toml 16
# The second argument is the number of agents. The secret authenticates peers; the network is that of the cluster.
# Afterwards: p2pfrl collect runs/peer-* --out runs/all
#SBATCH --job-name=p2pfrl
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
set -euo pipefail
if [ -z "${P2PFRL_LEAD:-}" ]; then # the batch script: start this file once per node
    umask 077
    mkdir -p runs
    [ -e runs/secret ] || head -c 32 /dev/urandom | base64 > runs/secret
    P2PFRL_LEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export P2PFRL_LEAD OMP_NUM_THREADS=1
    exec srun bash "$0" "$@"
fi
scenario=$1 agents=$2 number=$SLURM_PROCID of=$SLURM_NTASKS
address() { getent ahostsv4 "$1" | awk 'NR == 1 { print $1 }'; }
first=$((number * agents / of)) last=$(((number + 1) * agents / of - 1))
options=(--agents "$first-$last" --rendezvous "$(address "$P2PFRL_LEAD"):${P2PFRL_PORT:-7000}"
    --bind "$(address "$(hostname)"):0" --insecure --secret runs/secret --out "runs/peer-$number")
if ((number == 0)); then options+=(--lead); fi
exec "${PYTHON:-python}" -m p2pfrl peer "$scenario" "${options[@]}" --quiet

#!/usr/bin/env bash
# Score, or run, on Slurm: a worker a task, over as many nodes as that takes. A job that ended early goes on where it was.
#   sbatch data_scripts/slurm.sh score OUT DETECTOR IMAGES
#   sbatch data_scripts/slurm.sh run OUT --data DIR --category all
#SBATCH --job-name=mdps
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=3G
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: sbatch slurm.sh score OUT DETECTOR IMAGES, or run OUT --data DIR --category NAME" >&2; exit 2; }

command=$1 out=$2 resume=
shift 2
[ "$command" = run ] && [ ! -e "$out/config.json" ] && [ ! -e "$out/categories.json" ] || resume=--resume

place=$(mktemp -d "$PWD/mdps.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$place"' EXIT
dask scheduler --port 0 --dashboard-address :0 --scheduler-file "$place/scheduler.json" &
scheduler=$!
srun dask worker --scheduler-file "$place/scheduler.json" --nthreads 1 --memory-limit 2GiB &
until [ -s "$place/scheduler.json" ]; do
  kill -0 "$scheduler" || { echo "the Dask scheduler ended; its own lines above say why" >&2; exit 1; }
  sleep 1
done
address=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$place/scheduler.json")
python -m "mdps_ref.$command" "$@" --out "$out" $resume --cluster "$address"

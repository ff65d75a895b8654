#!/usr/bin/env bash
# Starts a Ray head with its dashboard on this machine and prints how to submit to it and how to stop it.
#
# Usage: cluster/local_head.sh [FOLDER]     FOLDER holds the token, the logs and the process ids.
# Environment: RAY_PORT (6399), DASHBOARD_PORT (8365), NUM_CPUS (twice the cores, at least four),
# RAY_EXTRA (further options of `ray start`).
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

folder=${1:-outputs/local-cluster}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
port=${RAY_PORT:-6399}
dashboard_port=${DASHBOARD_PORT:-8365}
cores=$(nproc)
num_cpus=${NUM_CPUS:-$((cores * 2 < 4 ? 4 : cores * 2))}

temporary=${RAY_TEMP_DIR:-/tmp/mke_ray_$port}
umask 077
[ -s "$folder/token" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$folder/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
export RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export PATH="$PWD/.venv/bin:$PATH" # entry points of jobs are looked up on this PATH

rm -f "$temporary/ray_current_cluster" "$folder"/address "$folder"/node-*.pid
# --block keeps the head in one process tree, so that it can be stopped by its own process id.
setsid ray start --head --block --port="$port" --num-cpus="$num_cpus" \
  --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" \
  --temp-dir="$temporary" ${RAY_EXTRA:-} > "$folder/head.log" 2>&1 &
echo $! > "$folder/head.pid"

for _ in $(seq 120); do
  if ray job list --address "http://127.0.0.1:$dashboard_port" > /dev/null 2>&1 \
    && [ -s "$temporary/ray_current_cluster" ]; then
    cp "$temporary/ray_current_cluster" "$folder/address"
    cat <<EOF
The cluster is up; its dashboard is http://127.0.0.1:$dashboard_port
Submit:  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
         python jobs/submit.py --address http://127.0.0.1:$dashboard_port -- jobs/expand.py root=$PWD/outputs/submitted
A node:  cluster/local_node.sh $folder
Stop:    kill -- -$(cat "$folder/head.pid")
EOF
    exit 0
  fi
  kill -0 "$(cat "$folder/head.pid")" 2> /dev/null || break
  sleep 1
done
echo "The head did not start; its log is $folder/head.log" >&2
exit 1

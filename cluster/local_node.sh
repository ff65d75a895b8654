#!/usr/bin/env bash
# Adds a node on this machine to the cluster of cluster/local_head.sh, to try out several nodes.
#
# Usage: cluster/local_node.sh [FOLDER]     FOLDER is that of the head.
# Environment: NUM_CPUS (2), RAY_EXTRA (further options of `ray start`, for example --labels=pool=cpu-decode).
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0" && exit ;; esac
cd "$(dirname "$0")/.."

folder=${1:-outputs/local-cluster}
if [ ! -s "$folder/address" ]; then
  echo "$folder holds no running cluster; start one with cluster/local_head.sh $folder" >&2
  exit 2
fi
folder=$(cd "$folder" && pwd)
address=$(cat "$folder/address")
number=1
while [ -e "$folder/node-$number.pid" ]; do number=$((number + 1)); done

umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
export RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export PATH="$PWD/.venv/bin:$PATH"

# A folder of its own for Ray: nodes that share one delete each other's copies of a job's working folder.
temporary=$(mktemp --directory /tmp/mke_ray_node_XXXX)
log="$folder/node-$number.log"
setsid ray start --block --address="$address" --num-cpus="${NUM_CPUS:-2}" \
  --temp-dir="$temporary" ${RAY_EXTRA:-} > "$log" 2>&1 &
echo $! > "$folder/node-$number.pid"

for _ in $(seq 120); do
  if grep --quiet "Ray runtime started" "$log"; then
    cat <<EOF
Node $number of $folder is up, with ${NUM_CPUS:-2} CPUs
Logs:    $temporary/session_latest/logs
Stop:    kill -- -$(cat "$folder/node-$number.pid")
EOF
    exit 0
  fi
  kill -0 "$(cat "$folder/node-$number.pid")" 2> /dev/null || break
  sleep 1
done
echo "The node did not start; its log is $log" >&2
exit 1

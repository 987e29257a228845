#!/usr/bin/env bash
# A SLURM cluster that is this machine alone, for the tests of hydra/launcher=slurm. Needs root, and
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#
#   tests/slurm.sh start FOLDER    start munged, slurmctld and slurmd; their state goes into FOLDER
#   tests/slurm.sh stop FOLDER
#
# Commands find the cluster with SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail

usage() { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
[[ $# == 2 ]] || usage
mkdir -p "$2"
folder=$(realpath "$2")
export SLURM_CONF=$folder/slurm.conf

configure() {
  local memory
  memory=$(free --mebi | awk '/^Mem/ {print int($2 * 0.8)}')
  cat > "$SLURM_CONF" <<CONF
ClusterName=tests
SlurmctldHost=localhost
NodeName=localhost CPUs=$(nproc --all) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES State=UP MaxTime=INFINITE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=30
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
CONF
  mkdir -p "$folder/controller" "$folder/node"
}

start_munge() {
  munge --no-input > /dev/null 2>&1 && return
  install -d -o munge -g munge -m 755 /run/munge
  if [[ ! -s /etc/munge/munge.key ]]; then
    install -o munge -g munge -m 400 <(head -c 1024 /dev/urandom) /etc/munge/munge.key
  fi
  chown -R munge: /etc/munge /var/lib/munge /var/log/munge
  runuser --user munge -- munged --pid-file "/run/munge/munged.pid"
  touch "$folder/munge-is-ours"
}

await_idle_node() {
  for _ in $(seq 60); do
    [[ $(sinfo --noheader --format=%T 2> /dev/null) == idle ]] && return
    sleep 0.5
  done
  echo "the node did not come up; see $folder/*.log" >&2
  exit 1
}

end() {
  [[ -s $1 ]] || return 0
  kill "$(< "$1")" 2> /dev/null || true
}

case $1 in
  start)
    configure
    start_munge
    slurmctld
    slurmd -N localhost
    await_idle_node
    ;;
  stop)
    scancel --user=root 2> /dev/null || true
    end "$folder/slurmd.pid"
    end "$folder/slurmctld.pid"
    if [[ -e $folder/munge-is-ours ]]; then end /run/munge/munged.pid; fi
    ;;
  *) usage ;;
esac

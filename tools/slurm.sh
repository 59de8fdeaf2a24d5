#!/usr/bin/env bash
# A Slurm cluster of three nodes on this machine, for tests: real daemons, no containers, no accounting.
#
#   tools/slurm.sh up|down|env [STATE_DIR]      # STATE_DIR: .slurm beside tools/ unless given
#   sudo tools/slurm.sh up && eval "$(tools/slurm.sh env)" && sinfo
#
# Configuration, keys, state and logs are in STATE_DIR. Outside of it, the script may install Debian's packages.
# Exit status: 0 done, 1 the cluster does not come up, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'slurm: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

action=${1:-}
state=${2:-$(cd "$(dirname "$0")/.." && pwd)/.slurm}
case $state in /*) ;; *) state=$PWD/$state ;; esac
export SLURM_CONF=$state/slurm.conf

install_packages() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  command -v apt-get >/dev/null || die 2 "needs slurmctld, slurmd, slurm-client and munge: run it on Debian or Ubuntu"
  say "installing slurmctld, slurmd, slurm-client and munge"
  # Debian starts services on installation. None of them is needed.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.samebits
  chmod 755 /usr/sbin/policy-rc.d.samebits
  [ -e /usr/sbin/policy-rc.d ] || ln -s policy-rc.d.samebits /usr/sbin/policy-rc.d
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq \
    slurmctld slurmd slurm-client munge >"$state/apt.log" 2>&1 || die 2 "apt-get failed: see $state/apt.log"
  [ "$(readlink /usr/sbin/policy-rc.d)" != policy-rc.d.samebits ] || rm /usr/sbin/policy-rc.d
  rm /usr/sbin/policy-rc.d.samebits
}

write_configuration() {
  mkdir -p "$state/munge" "$state/controller"
  chmod 700 "$state/munge"
  [ -s "$state/munge/key" ] || (umask 077; head -c 128 /dev/urandom >"$state/munge/key")
  mkdir -p "$state"/spool.n{1,2,3}
  # Debian 12's Slurm does not know the value, and needs none.
  case $(slurmd -V) in *' 2'[0-2].*) : ;; *) echo CgroupPlugin=disabled ;; esac >"$state/cgroup.conf"
  cat >"$SLURM_CONF" <<CONF
ClusterName=samebits
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=17000
AuthType=auth/munge
# Short, so that a requeue after a node's death does not wait for two minutes.
AuthInfo=socket=$state/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/spool.%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.%n.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdTimeout=10
KillWait=3
JobRequeue=1
MinJobAge=3600
SchedulerParameters=sched_interval=2,batch_sched_delay=0
NodeName=n[1-3] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[17001-17003] CPUs=2 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
CONF
}

up() {
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo"
  mkdir -p "$state"
  install_packages
  if ready; then return; fi
  write_configuration
  munged --force --socket="$state/munge.socket" --key-file="$state/munge/key" --pid-file="$state/munged.pid" \
    --log-file="$state/munged.log" --seed-file="$state/munge/seed" 2>"$state/munged.err" || die 1 "$(cat "$state/munged.err")"
  slurmctld -i
  for node in 1 2 3; do slurmd -N "n$node"; done
  for _ in $(seq 200); do ! ready || return 0; sleep 0.05; done
  die 1 "the nodes did not come up: see $state/*.log"
}

ready() { [ "$(timeout 5 sinfo -h -t idle,alloc,mix -o %D 2>/dev/null)" = 3 ]; }

down() {
  local name pid
  for name in slurmd.n1 slurmd.n2 slurmd.n3 slurmctld munged; do
    pid=$(cat "$state/$name.pid" 2>/dev/null) || continue
    # A stale file may name another process by now.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${name%%.*}" ] || continue
    kill "$pid"
    for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.05; done
  done
  rm -rf "$state"
}

case $action in
  up) up ;;
  down) down ;;
  env) printf 'export SLURM_CONF=%q\n' "$SLURM_CONF" ;;
  *) die 2 "usage: tools/slurm.sh up|down|env [STATE_DIR]" ;;
esac

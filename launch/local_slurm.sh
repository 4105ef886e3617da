#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests and benchmarks. As root; installs nothing:
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   launch/local_slurm.sh start [CPUS] | restart_controller | stop | is_up
# Everything but the key of munge and /etc/slurm/slurm.conf lies in $CNNPOOL_SLURM_DIR
# (/var/lib/cnnpool-slurm). LOCAL_REQUEUE_EXIT= leaves RequeueExit out of slurm.conf.
set -euo pipefail

dir="${CNNPOOL_SLURM_DIR:-/var/lib/cnnpool-slurm}"
conf=/etc/slurm/slurm.conf
mark="# made by launch/local_slurm.sh"

die() { echo "local_slurm.sh: $*" >&2; exit 1; }

check() {
  local program
  for program in slurmctld slurmd munged sinfo; do
    command -v "$program" > /dev/null || PATH="$PATH:/usr/sbin" command -v "$program" > /dev/null \
      || die "no $program: apt-get install -y --no-install-recommends slurm-wlm munge"
  done
  [ "$(id -u)" = 0 ] || die "run as root: slurmd starts jobs as their users"
  if [ -e "$conf" ] && ! grep -qF "$mark" "$conf"; then
    die "$conf is of another cluster; nothing is changed"
  fi
}

write_conf() {
  local host cpus="$1"
  host="$(hostname -s)"
  mkdir -p "$dir"/{ctld,d,log} /run/munge /etc/slurm
  # cred_expire: a requeued job otherwise waits 120 s. pgid: linuxproc lets children of a
  # batch script live on. KillWait covers one save.
  cat > "$conf" << CONF
$mark
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$dir/ctld
SlurmdSpoolDir=$dir/d
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=10
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
${LOCAL_REQUEUE_EXIT+#}RequeueExit=75
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=graceful Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

pid() { cat "$1" 2> /dev/null || true; }

end() { # PIDFILE NAME: ends the process that the file names, if it is that program
  local number
  number="$(pid "$1")"
  [ -n "$number" ] && [ "$(cat "/proc/$number/comm" 2> /dev/null)" = "$2" ] || return 0
  kill "$number"
  for _ in $(seq 100); do [ -e "/proc/$number" ] || return 0; sleep 0.1; done
  kill -9 "$number" 2> /dev/null || true
}

is_up() { sinfo -h -o %t 2> /dev/null | grep -Eq 'idle|mix|alloc'; }

wait_until_up() {
  for _ in $(seq 100); do is_up && return 0; sleep 0.1; done
  tail -5 "$dir"/log/*.log >&2
  die "the node did not come up in 10 s"
}

start() {
  check
  write_conf "${1:-4}"
  if ! munge -n > /dev/null 2>&1; then
    chown -R munge:munge /run/munge /var/log/munge /var/lib/munge /etc/munge
    runuser -u munge -- /usr/sbin/munged
  fi
  PATH="$PATH:/usr/sbin"
  slurmctld
  slurmd
  wait_until_up
}

stop() {
  check
  if is_up; then scancel --user=root > /dev/null 2>&1 || true; sleep 1; fi
  end "$dir/slurmd.pid" slurmd
  end "$dir/slurmctld.pid" slurmctld
  end /run/munge/munged.pid munged
  rm -rf "$dir" "$conf"
}

case "${1:-}" in
  start) start "${2:-4}" ;;
  restart_controller) check; end "$dir/slurmctld.pid" slurmctld; PATH="$PATH:/usr/sbin" slurmctld ;;
  stop) stop ;;
  is_up) is_up ;;
  *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
esac

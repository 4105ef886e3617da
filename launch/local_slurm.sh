#!/usr/bin/env bash
# A real Slurm on this machine, for tests and benchmarks. As root; installs nothing:
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   launch/local_slurm.sh start [CPUS [NODES]] | start_node N | kill_node N | restart_controller
#                         | stop | is_up
# One node, or several with so many CPUs each: node1, node2, ..., each with a slurmd of its own.
# kill_node takes a node away with all that runs there, as a machine that loses its power.
# Everything but the key of munge, /etc/slurm/slurm.conf and, for several nodes, a line of /etc/hosts
# lies in $CNNPOOL_SLURM_DIR (/var/lib/cnnpool-slurm). LOCAL_REQUEUE_EXIT= leaves RequeueExit out.
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
  local host cpus="$1" nodes="$2" number
  host="$(hostname -s)"
  mkdir -p "$dir"/{ctld,log} /run/munge /etc/slurm
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
SlurmdSpoolDir=$dir/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
SlurmdTimeout=20
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
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=graceful Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
  for number in $(seq "$nodes"); do
    echo "NodeName=$(node "$number" "$nodes") NodeHostname=$host NodeAddr=127.0.0.1" \
      "Port=$((17000 + number)) CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus" \
      "ThreadsPerCore=1 State=UNKNOWN" >> "$conf"
  done
  if [ "$nodes" -gt 1 ]; then # JAX finds the first process by the name of its node
    echo "127.0.0.1 $(seq -f node%g -s ' ' "$nodes") $mark" >> /etc/hosts
  fi
}

node() { # NUMBER NODES: its name
  if [ "$2" = 1 ]; then hostname -s; else echo "node$1"; fi
}

nodes() { grep -c '^NodeName=' "$conf" 2> /dev/null || echo 0; }

start_node() {
  local name
  name="$(node "$1" "$(nodes)")"
  mkdir -p "$dir/$name"
  PATH="$PATH:/usr/sbin" slurmd -N "$name"
}

kill_node() { # its slurmd, and every process of a job there with the slurmstepd that started it
  local name number parent
  name="$(node "$1" "$(nodes)")"
  kill -9 "$(pid "$dir/slurmd-$name.pid")"
  for number in $(grep -lsz "^SLURMD_NODENAME=$name\$" /proc/[0-9]*/environ | cut -d/ -f3); do
    parent="$(ps -o ppid= -p "$number" | tr -d ' ')"
    if [ "$(cat "/proc/$parent/comm" 2> /dev/null)" = slurmstepd ]; then kill -9 "$parent"; fi
    kill -9 "$number" 2> /dev/null || true
  done
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

is_up() { sinfo -h -N -p low -o %t 2> /dev/null | grep -Ec 'idle|mix|alloc' | grep -qx "$(nodes)"; }

wait_until_up() {
  for _ in $(seq 100); do is_up && return 0; sleep 0.1; done
  tail -5 "$dir"/log/*.log >&2
  die "not every node came up in 10 s"
}

start() {
  local number
  check
  write_conf "$1" "$2"
  if ! munge -n > /dev/null 2>&1; then
    chown -R munge:munge /run/munge /var/log/munge /var/lib/munge /etc/munge
    runuser -u munge -- /usr/sbin/munged
  fi
  PATH="$PATH:/usr/sbin"
  slurmctld
  for number in $(seq "$2"); do start_node "$number"; done
  wait_until_up
}

stop() {
  check
  if is_up; then scancel --user=root > /dev/null 2>&1 || true; sleep 1; fi
  for file in "$dir"/slurmd-*.pid; do end "$file" slurmd; done
  end "$dir/slurmctld.pid" slurmctld
  end /run/munge/munged.pid munged
  rm -rf "$dir" "$conf"
  if grep -qF "$mark" /etc/hosts; then # not sed -i: in a container the file cannot be replaced
    local others
    others="$(grep -vF "$mark" /etc/hosts)"
    echo "$others" > /etc/hosts
  fi
}

case "${1:-}" in
  start) start "${2:-4}" "${3:-1}" ;;
  start_node) check; start_node "$2" ;;
  kill_node) check; kill_node "$2" ;;
  restart_controller) check; end "$dir/slurmctld.pid" slurmctld; PATH="$PATH:/usr/sbin" slurmctld ;;
  stop) stop ;;
  is_up) is_up ;;
  *) sed -n '2,9s/^# //p' "$0"; exit 2 ;;
esac

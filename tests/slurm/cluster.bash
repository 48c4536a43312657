# shellcheck shell=bash
# A real Slurm on hosts in namespaces (hosts.bash): munged and slurmctld here, slurmd on each node. All its
# state is in $state, nothing in /etc or /var is read. Two partitions: `main`, and `urgent`, which pre-empts it.
. "$here/hosts.bash"

# slurm_configure NODES CPUS GPUS
slurm_configure() {
    local gpus=()
    cat >"$state/slurm.conf" <<END
ClusterName=tests
SlurmctldHost=head
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
# A job that comes back waits until its old credentials are void: 5 s in place of 2 minutes.
AuthInfo=socket=$state/munge/socket,cred_expire=5
SlurmctldPidFile=$state/slurmctld.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdPidFile=$state/%n.pid
SlurmdLogFile=$state/%n.log
SlurmdSpoolDir=$state/%n/spool
TmpFS=$state/%n/tmp
StateSaveLocation=$state/ctld
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=${KILL_WAIT:-3}
SlurmdTimeout=${SLURMD_TIMEOUT:-8}
GresTypes=gpu
NodeName=node[1-$1] NodeAddr=10.77.0.[1-$1] CPUs=$2 RealMemory=1000 Gres=gpu:$3
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
END
    # A GPU wants a device file of its own; that it is a null device, Slurm does not see.
    for ((g = 0; g < $3; g++)); do
        mknod "$state/gpu$g" c 1 3 2>/dev/null || true
        gpus+=("$state/gpu$g")
    done
    [ -e "$state/gpu0" ] || gpus=(/dev/null /dev/full /dev/zero)
    echo "AutoDetect=off" >"$state/gres.conf"
    for ((g = 0; g < $3; g++)); do
        echo "Name=gpu File=${gpus[g]} Flags=nvidia_gpu_env" >>"$state/gres.conf"
    done
}

start_munge() {
    mkdir -m 755 "$state/munge"
    (umask 077 && head -c 1024 /dev/urandom >"$state/munge/key")
    munged --force --key-file="$state/munge/key" --socket="$state/munge/socket" --num-threads=2 \
        --seed-file="$state/munge/seed" --pid-file="$state/munge/pid" --log-file="$state/munge/log" \
        2>"$state/munge/out" || fail "munged: $(cat "$state/munge/out")"
}

# node_boot K: what the last power loss left of a job's step would stop the next one.
node_boot() {
    rm -rf "$state/node$1"
    mkdir -p "$state/node$1/spool" "$state/node$1/tmp"
    host_boot "$1" slurmd -D -N "node$1"
}

nodes_idle() {
    [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -c '^idle$')" = "$1" ]
}

# cluster_start NODES CPUS [GPUS]: CPUs and GPUs of each node.
cluster_start() {
    local k
    state=$(mktemp -d /tmp/slurm.XXXX) # a socket's path is short, and Slurm's users may read it
    chmod 755 "$state"
    trap 'cluster_stop' EXIT
    export SLURM_CONF=$state/slurm.conf
    hosts_start "$1"
    slurm_configure "$1" "$2" "${3:-0}"
    start_munge
    slurmctld -c
    for ((k = 1; k <= $1; k++)); do
        node_boot "$k"
    done
    wait_until 30 nodes_idle "$1"
}

# What is left ends with the namespaces.
cluster_stop() {
    rm -rf "$work" "$state"
}

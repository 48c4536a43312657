# shellcheck shell=bash
# Hosts in namespaces: each with a name, a network card on a common bridge, and processes of its own, so that
# to Slurm and to MPI they are machines apart. Files are common to all. Sourced inside tests/slurm/inside.
#
# We are 10.77.0.254, "head"; node K is 10.77.0.K, "nodeK".

# hosts_start COUNT
hosts_start() {
    local k
    hostname head
    ip link set lo up
    ip link add br0 type bridge
    ip addr add 10.77.0.254/24 dev br0
    ip link set br0 up
    { echo "127.0.0.1 localhost"; echo "10.77.0.254 head"; } >"$state/hosts"
    for ((k = 1; k <= $1; k++)); do
        echo "10.77.0.$k node$k" >>"$state/hosts"
        ip netns add "node$k"
        ip link add "to$k" type veth peer name eth0 netns "node$k"
        ip link set "to$k" master br0 up
        nsenter --net="/run/netns/node$k" sh -c \
            "ip link set lo up; ip addr add 10.77.0.$k/24 dev eth0; ip link set eth0 up"
    done
    mount --bind "$state/hosts" /etc/hosts
}

# host_boot K COMMAND...: a shell is the host's first process, with whom all others end.
host_boot() {
    local k=$1
    shift
    nsenter --net="/run/netns/node$k" unshare --uts --pid --mount --fork --mount-proc --kill-child \
        bash -c 'hostname "$1"; shift; "$@" & wait' init "node$k" "$@" </dev/null >"$state/node$k.out" 2>&1 &
    host_shell[k]=$!
}
# host_enter K COMMAND...
host_enter() {
    local first
    first=$(pgrep -P "${host_shell[$1]}")
    shift
    nsenter --target "$first" --net --uts --pid --mount -- "$@"
}
# host_crash K: the power goes off.
host_crash() {
    kill -KILL "${host_shell[$1]}"
    wait "${host_shell[$1]}" 2>/dev/null || true
}
# host_cut K, host_mend K: its network cable.
host_cut() {
    ip link set "to$1" down
}
host_mend() {
    ip link set "to$1" up
}
host_shell=()

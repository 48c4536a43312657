#!/bin/bash
# Without Slurm: --hosts over two hosts, each with its own network and processes. What stands in for ssh enters the
# host, as ssh does, and starts what it is told.
INSIDE_NEEDS=ip
. "$(dirname "$0")/lib.bash"
state=$(mktemp -d /tmp/hosts.XXXX)
trap 'rm -rf "$work" "$state"' EXIT
hosts_start 2
host_boot 1 sleep 1000
host_boot 2 sleep 1000
wait_until 10 host_enter 1 true
wait_until 10 host_enter 2 true
slurm_recipe
expect 0 run whole 4 --stages teacher

cat >agent <<END
#!/bin/bash
# agent HOST COMMAND...
host=\$1
shift
echo "\$host" >>$work/entered
case \$host in
END
for k in 1 2; do
    echo "    node$k) exec nsenter --target $(pgrep -P "${host_shell[k]}") --net --uts --pid --mount -- sh -c \"\$*\" ;;" >>agent
done
echo esac >>agent
chmod +x agent
export OMPI_MCA_plm_rsh_agent=$work/agent
expect 0 "$retort" run recipe.yaml --out spread --hosts node1:2,node2:2 --threads 1 --stages teacher
[ "$(sort -u entered)" = "node1
node2" ] || fail "entered: $(cat entered)"
for r in 0 1 2 3; do
    says "spread/ranks/$r.state" "^host *node$((r / 2 + 1)) "
done
same_bits whole spread teacher

# A cut cable: no rank is left, on either side, once the time limit of a collective is over.
sed -i 's/run: {/run: {watchdog_s: 4, /' recipe.yaml
"$retort" run recipe.yaml --out cut --hosts node1:2,node2:2 --threads 1 --stages teacher >cut.log 2>&1 &
launcher=$!
paused 1 cut teacher 3
host_cut 2
resumed 1 cut
ended 4
no_ranks() {
    ! host_enter "$1" pgrep -x retort-worker >/dev/null
}
wait_until 20 no_ranks 1
wait_until 20 no_ranks 2
says cut.log 'error: .* has waited [0-9]+ s; not arrived'
passed all

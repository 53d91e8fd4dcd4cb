# The gate's checks of ports that need root, devices or libraries of their own. Sourced by .ci/run.
# shellcheck shell=bash

# as_root LIMIT COMMAND..: in the copy, as root_tests runs.
as_root() {
    local limit="$1"
    shift
    in_copy "$scratch/root" timeout --foreground --kill-after=10s "$limit" "$@"
}

# The suite and more over vhost, memif, af_packet and af_xdp, with huge pages and without. DPDK has
# one environment per process, and virtual devices that were closed leave something behind in it:
# each test has a process of its own.
dpdk_tests() {
    local name status
    local test=(cargo test -p nic-ports --features dpdk --test dpdk)
    provide_huge_pages 256
    as_root 15m "${test[@]}" --no-run
    for name in $(as_root 1m "${test[@]}" -- --list 2>/dev/null | sed -n 's/: test$//p'); do
        status=0
        dpdk_test "$name" || status=$?
        if ((status != 0)) && [[ "$name" == memif ]]; then
            # Debian's DPDK 22.11: a memif server that polls while its peer goes away may crash.
            echo "memif once more"
            status=0
            dpdk_test "$name" || status=$?
        fi
        ((status == 0)) || return "$status"
    done
}

dpdk_test() {
    as_root 5m cargo test -p nic-ports --features dpdk --test dpdk -- --include-ignored \
        --exact "$1" 2>&1 | tee --append "$scratch/root-tests.log"
}

# Engines on every kind of port with engines on every other.
interop_tests() {
    provide_huge_pages 256
    as_root 15m cargo test -p nic-tests --features dpdk --test interop -- --include-ignored 2>&1 |
        tee --append "$scratch/root-tests.log"
}

# Every kernel over a port that goes round the kernel.
kernels_over_xdp() {
    as_root 15m env NIC_TEST_PORT=xdp cargo test -p nic-tests --features dpdk --test kernels
}

# Each kind of port once through, beside its own plainest calls: all of them open, and every value is
# right. Times are not looked at, and a machine that moves may spoil any of them.
ports_bench() {
    local status=0
    provide_huge_pages 512
    as_root 15m cargo build --release -p nic-benches --features dpdk
    as_root 5m cargo run --quiet --release -p nic-benches --features dpdk -- \
        ports --json --small --rounds 2 >"$scratch/ports.json" || status=$?
    ((status == 0 || status == 75))
    head -c 4000 "$scratch/ports.json"
    jq --exit-status '([.results[] | {(.name): .value}] | add) as $found
        | ["udp", "uring", "ring", "xdp", "vhost"]
        | all(. as $port | $found["errors_" + $port] == 0)' \
        "$scratch/ports.json"
}

# What a lookup costs the target in instructions, and how often the payload of a READ is copied:
# counts, which noise cannot touch. The bounds of instructions are a little above what was counted
# last; they are lowered with it.
instructions() {
    local maxima='{"udp": 1650, "ring": 1500}' copies='{"udp": 2, "ring": 3}'
    as_root 10m cargo run --quiet --release -p nic-benches --features dpdk -- instructions --json \
        >"$scratch/instructions.json"
    jq --raw-output '.results[] | "\(.name) \(.value)"' "$scratch/instructions.json"
    jq --exit-status --argjson maxima "$maxima" '([.results[] | {(.name): .value}] | add) as $found
        | $maxima | to_entries
        | all($found["target_instructions_per_scar_" + .key] <= .value)' \
        "$scratch/instructions.json"
    jq --exit-status --argjson copies "$copies" '([.results[] | {(.name): .value}] | add) as $found
        | $copies | to_entries
        | all(($found["payload_copies_per_read_" + .key] | round) == .value)' \
        "$scratch/instructions.json"
}

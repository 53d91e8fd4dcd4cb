# What the gate needs of the machine, and how the machine gets back to what it was.
# Sourced by .ci/run.
# shellcheck shell=bash

# Versions that are installed where the tool is missing; any version that is there is taken.
readonly CARGO_DENY_VERSION=0.20.2
readonly CARGO_HACK_VERSION=0.6.46
# The package's rust-version; older toolchains need not try.
readonly RUST_MINOR_MIN=88

prepare_scratch() {
    # Not below TMPDIR: the unprivileged user has to reach it. Short: socket paths have 107 bytes.
    scratch="$(mktemp -d /var/tmp/nic-gate.XXXXXX)"
    chmod 711 "$scratch"
    # Names the processes of this run, in their environment.
    run_mark="NIC_GATE_RUN=$(basename "$scratch")"
    readonly scratch run_mark
    # Git refuses repositories of other users unless told; the copy belongs to another user.
    printf '[safe]\n\tdirectory = *\n' >"$scratch/gitconfig"
    export GIT_CONFIG_GLOBAL="$scratch/gitconfig"
}

clean_up() {
    local status=$? ids
    trap - EXIT INT TERM HUP
    ids="$(marked_processes)"
    # shellcheck disable=SC2086 # one word for each process
    [[ -z "$ids" ]] || kill -KILL $ids 2>/dev/null || true
    if [[ -f "$scratch/huge-pages-before" ]]; then
        cat "$scratch/huge-pages-before" >/proc/sys/vm/nr_hugepages || true
    fi
    rm -rf -- "$scratch"
    exit "$status"
}

# Ids of the processes that tests of this run have started and not ended: they carry the run's
# mark, or belong to the user that exists for this run alone.
marked_processes() {
    {
        grep --files-with-matches --text --fixed-strings "$run_mark" /proc/[0-9]*/environ || true
        if [[ -f "$scratch/uid" ]]; then
            find /proc -maxdepth 1 -name '[0-9]*' -uid "$(<"$scratch/uid")" || true
        fi
    } 2>/dev/null | cut -d/ -f3 | sort -un | paste --serial --delimiters=' '
}

# Fails if marked processes are there and do not end by themselves: one that was killed needs a
# moment to go.
no_marked_processes() {
    local ids _
    for _ in {1..50}; do
        ids="$(marked_processes)"
        [[ -n "$ids" ]] || return 0
        sleep 0.1
    done
    echo "processes that the tests started and did not end:" >&2
    ps -o pid,ppid,user,stat,args -p ${ids// /,} >&2 || echo "$ids" >&2
    return 1
}

# need_package COMMAND-OR-FILE PACKAGE..: notes the packages if it is missing.
missing_packages=()
need_package() {
    local wanted="$1"
    shift
    if [[ "$wanted" == /* ]]; then
        [[ -e "$wanted" ]] || missing_packages+=("$@")
    else
        command -v "$wanted" >/dev/null || missing_packages+=("$@")
    fi
}

install_missing_packages() {
    ((${#missing_packages[@]} > 0)) || return 0
    echo "missing packages: ${missing_packages[*]}"
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "install them, or run as root on Debian, where this script does it" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet
    apt-get install --quiet --yes --no-install-recommends "${missing_packages[@]}"
}

provide_toolchain() {
    need_package gcc gcc libc6-dev
    need_package nm binutils
    need_package git git
    if ! $quick; then
        need_package setpriv util-linux
        need_package ps procps
        need_package ip iproute2
        need_package ethtool ethtool
        need_package valgrind valgrind
        # For the port over DPDK, which is looked for when it is built.
        need_package pkg-config pkg-config
        need_package /usr/include/dpdk/rte_ethdev.h libdpdk-dev
        need_package jq jq
        # Kernel TCP, beside which bulk messages are measured.
        need_package iperf3 iperf3
        need_package prometheus prometheus
    fi
    need_package /etc/ssl/certs/ca-certificates.crt ca-certificates
    # Debian's own toolchain of that name is too old; these follow the current one.
    need_package cargo cargo-web rustc-web
    need_package cargo-fmt rustfmt-web
    need_package cargo-clippy rust-web-clippy
    install_missing_packages

    local tool minor
    for tool in "rustc" "cargo" "cargo fmt" "cargo clippy"; do
        if ! $tool --version >/dev/null 2>&1; then
            echo "found no working '$tool'; with rustup: rustup component add rustfmt clippy" >&2
            return 1
        fi
    done
    minor="$(rustc --version | sed -E 's/^rustc 1\.([0-9]+)\..*/\1/')"
    if ((minor < RUST_MINOR_MIN)); then
        echo "found $(rustc --version), needed: 1.$RUST_MINOR_MIN or later" >&2
        return 1
    fi
}

provide_tools() {
    provide_tool cargo-deny "$CARGO_DENY_VERSION"
    provide_tool cargo-hack "$CARGO_HACK_VERSION"
}

# Without optimisation: that halves the build, and neither has much to do.
provide_tool() {
    local name="$1" version="$2"
    if command -v "$name" >/dev/null; then
        "$name" "${name#cargo-}" --version
        return
    fi
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug \
        --target-dir "$scratch/tools" "$name@$version"
    rm -rf -- "$scratch/tools"
}

report_environment() {
    echo "commit:  $(git describe --always --dirty 2>/dev/null || echo unknown)"
    echo "system:  $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d '"'), $(uname -rm)"
    echo "machine: $(nproc) cores, $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' \
        /proc/meminfo), $(df --output=avail -h "$root" | tail -n 1 | tr -d ' ') free"
    echo "user:    $(id -un)"
    rustc --version
    cargo --version
    cargo fmt --version
    cargo clippy --version
    gcc --version | head -n 1
    nm --version | head -n 1
}

# Some tests want huge pages. The machine gets its own number of them back at the end.
provide_huge_pages() {
    local wanted="$1" before there
    before="$(</proc/sys/vm/nr_hugepages)"
    ((before < wanted)) || return 0
    [[ -f "$scratch/huge-pages-before" ]] || echo "$before" >"$scratch/huge-pages-before"
    echo "$wanted" >/proc/sys/vm/nr_hugepages
    there="$(</proc/sys/vm/nr_hugepages)"
    if ((there < wanted)); then
        # Caches and pieces of memory are in the way after many builds.
        sync
        echo 3 >/proc/sys/vm/drop_caches
        echo 1 >/proc/sys/vm/compact_memory
        echo "$wanted" >/proc/sys/vm/nr_hugepages
        there="$(</proc/sys/vm/nr_hugepages)"
    fi
    echo "huge pages: $before before, $there for these tests, of $wanted wanted"
    ((there >= wanted))
}

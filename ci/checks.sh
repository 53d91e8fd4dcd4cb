# The gate's checks of the source, as the calling user. Sourced by .ci/run.
# shellcheck shell=bash

fetch_sources() {
    local manifest
    for manifest in Cargo.toml ci/no_std/Cargo.toml; do
        if ! cargo fetch --locked --manifest-path "$manifest"; then
            echo "if its lock file is behind: cargo update --workspace --manifest-path $manifest" >&2
            return 1
        fi
    done
}

check_format() {
    cargo fmt --all --check
    cargo fmt --check --manifest-path ci/no_std/Cargo.toml
}

check_lints() {
    cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
}

test_in_place() {
    cargo test --locked --workspace
}

# Known vulnerabilities are not looked up: that database comes from a place that the gate's machine
# may not reach. `cargo deny check advisories` does it where there is a network.
check_dependencies() {
    cargo deny --locked --all-features check licenses bans sources
    cargo deny --locked --manifest-path ci/no_std/Cargo.toml --config deny.toml \
        check licenses bans sources
}

# Each crate is built with nothing but what it asks for itself. A workspace build would lend it the
# features that other crates ask for.
check_features() {
    cargo hack --locked --workspace --each-feature clippy -- -D warnings
}

check_documentation() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
}

check_no_std() {
    CARGO_TARGET_DIR="$target/no_std" ci/no_std/check
}

# Every crate that has tests/loom_*.rs.
check_loom() {
    local found
    for found in $(git ls-files --cached --others --exclude-standard -- ':(glob)*/tests/loom_*.rs' |
        xargs -r -n 1 dirname | xargs -r -n 1 dirname | sort -u); do
        RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR="$target/loom" timeout --foreground 10m \
            cargo test --locked --release --manifest-path "$found/Cargo.toml" --test 'loom_*' 2>&1 |
            tee --append "$scratch/loom-tests.log"
    done
    if [[ -z "${found-}" ]]; then
        echo "found no tests/loom_*.rs in any crate; the rings and the mailbox have some" >&2
        return 1
    fi
}

# What was promised has to have been tested: by the loom models and by root's tests.
check_specification() {
    ci/specification.sh "$scratch/loom-tests.log" "$scratch/root-tests.log"
}

# The whole stack in the simulator, ten million ops: with the unprivileged user's sources, and what
# that user has built. The counts are the test's own last words.
simulate() {
    as_stranger 15m cargo test --release -p nic-tests --test simulation --no-run
    as_stranger 10m cargo test --release -p nic-tests --test simulation 2>&1 |
        tee "$scratch/simulation.log"
    grep --extended-regexp '^submitted: [0-9]{8,}$' "$scratch/simulation.log"
}

# is_noticed BREAKAGE EXPECTED ARGUMENTS..: deliberate breakage has to be noticed. Builds this
# project's crates with --cfg nic_break="BREAKAGE" and runs a test of them, which must fail, and for
# the reason that one of its lines gives. What the crates depend on is what the unprivileged user has
# built.
is_noticed() {
    local breakage="$1" expected="$2" wrapper="$scratch/break-$1" output
    shift 2
    # Not sh, which may drop Cargo's variables that have a hyphen in their names.
    # shellcheck disable=SC2016 # "$@" is the wrapper's own
    printf '#!/usr/bin/env bash\nexec "$@" --cfg nic_break=\\"%s\\"\n' "$breakage" >"$wrapper"
    chmod +x "$wrapper"
    # What fails soon need not be fast.
    local test=(env RUSTC_WORKSPACE_WRAPPER="$wrapper" RUSTFLAGS="${RUSTFLAGS-}"
        CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 cargo test "$@")
    as_root 10m "${test[@]}" --no-run
    if output="$(as_root 10m "${test[@]}" 2>&1)"; then
        echo "the tests pass although $breakage is broken: cargo test $*" >&2
        return 1
    fi
    if ! grep --extended-regexp --max-count=1 "$expected" <<<"$output"; then
        printf 'the tests fail, but not with "%s":\n%s\n' "$expected" "$output" >&2
        return 1
    fi
}

# Entries are believed whatever their checksum. Plain READs race too, but may take a minute to lose.
check_checksum_matters() {
    is_noticed checksum 'a torn value was believed' \
        -p nic-tests --test race scan_and_read_never_yields_a_torn_value
}

# A producer that has written does not make sure that it sees a consumer fall asleep.
check_wake_fence_matters() {
    export RUSTFLAGS='--cfg loom'
    is_noticed wake_fence '^test no_wake_up_is_lost \.\.\. FAILED' \
        --release -p nic-shm --test loom_ring
}

# A packet is acknowledged though what it brought found no room.
check_retention_matters() {
    is_noticed ack_before_retention 'engines keep ops in hand|no completion in' \
        -p nic-tests --test simulation
}

# A packet that comes again is taken for a new one, and its ops run again.
check_duplicates_matter() {
    is_noticed reexecute '(after|of) at most [0-9]+ adds|is delivered after its end|two adds have found|is delivered again|swapped' \
        -p nic-tests --test simulation
}

# A reply is taken for that of the op which has its slot now.
check_generations_matter() {
    is_noticed late_reply "a former op's reply has answered a later one" \
        -p nic-tests --test bad_input replies_that_come_again
}

# has_nightly FILE: a nightly toolchain that has this, below its folder. Nothing is installed.
has_nightly() {
    local sysroot
    sysroot="$(RUSTUP_AUTO_INSTALL=0 rustc +nightly --print sysroot 2>/dev/null)" || return 1
    [[ -e "$sysroot/$1" ]]
}

# Accesses outside of what was allocated, after its end or after it was freed, where `unsafe` is.
# The standard library is not rebuilt: what is looked for lies in this project's code. Leaks are not
# looked for: forgotten leases leak by design.
check_address_sanitizer() {
    local host
    host="$(rustc -vV | sed -n 's/^host: //p')"
    if ! has_nightly "lib/rustlib/$host/lib/librustc-nightly_rt.asan.a"; then
        echo "no nightly toolchain with AddressSanitizer here: rustup toolchain install nightly"
        return 77
    fi
    # The faults that the tests of the fault guard raise are for that guard.
    export ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0:detect_stack_use_after_return=1
    export RUSTFLAGS='-Zsanitizer=address' CARGO_TARGET_DIR="$target/asan"
    # With a target named, build scripts and macros are left as they are. What the crates depend on
    # is soon built and seldom run.
    local test=(cargo +nightly test --locked --target "$host"
        --config 'profile.dev.package."*".opt-level=1')
    "${test[@]}" -p nic-shm -p nic-ports --lib --tests
    "${test[@]}" -p nic-tests --test bad_input --test processes --test faults
}

# Undefined behaviour and data races in the core of shm, whose copies are then relaxed atomics, and
# in the formats. Slow, so few random inputs; the interpreter has no memfds.
check_miri() {
    if ! RUSTUP_AUTO_INSTALL=0 cargo +nightly miri --version >/dev/null 2>&1; then
        echo "no Miri here: rustup +nightly component add miri rust-src"
        return 77
    fi
    export MIRIFLAGS='-Zmiri-permissive-provenance -Zmiri-disable-isolation'
    export BOLERO_RANDOM_ITERATIONS=20 CARGO_TARGET_DIR="$target/miri"
    cargo +nightly miri test --locked -p nic-shm --no-default-features --lib
    cargo +nightly miri test --locked -p nic-wire --lib --test fuzz
}

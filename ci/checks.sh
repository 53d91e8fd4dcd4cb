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
    for found in $(git ls-files --cached --others --exclude-standard -- '*/tests/loom_*.rs' |
        xargs -r -n 1 dirname | xargs -r -n 1 dirname | sort -u); do
        RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR="$target/loom" timeout --foreground 10m \
            cargo test --locked --release --manifest-path "$found/Cargo.toml" --test 'loom_*'
    done
    if [[ -z "${found-}" ]]; then
        echo "found no tests/loom_*.rs in any crate; the rings and the mailbox have some" >&2
        return 1
    fi
}

# Deliberate breakage has to be noticed: without the checksum's check the race against a writer must
# fail, and for that reason.
check_checksum_matters() {
    local test=(cargo test --locked -p nic-tests --test race) output
    export RUSTFLAGS='--cfg nic_break="checksum"' CARGO_TARGET_DIR="$target/broken"
    "${test[@]}" --no-run
    if output="$("${test[@]}" 2>&1)"; then
        echo "the race test passes although checksums are not looked at" >&2
        return 1
    fi
    grep --fixed-strings 'a torn value was believed' <<<"$output"
}

# The gate's tests as somebody who has just got a clone: an unprivileged user with a home, a copy
# and a toolchain of its own, and no way into the caller's. Sourced by .ci/run.
#
# The user is a number that nobody has; nothing is entered into the machine's list of users.
# shellcheck shell=bash

# What everybody is told to run.
readonly README_TESTS='cargo test --workspace'

make_copy() {
    unused_user_id >"$scratch/uid"
    copy_sources
    copy_toolchain

    # Dependencies as plain files, so that the user needs neither network nor root's cargo home.
    cargo vendor --quiet --locked --versioned-dirs "$scratch/vendor" >/dev/null
    local home
    for home in "$scratch/user" "$scratch/root"; do
        mkdir -p "$home/cargo" "$home/tmp"
        cat >"$home/cargo/config.toml" <<CONFIG
[source.crates-io]
replace-with = "vendored-sources"
[source.vendored-sources]
directory = "$scratch/vendor"
CONFIG
    done
    mkdir "$scratch/target"
    chown -R "$(<"$scratch/uid"):$(<"$scratch/uid")" \
        "$scratch/user" "$scratch/copy" "$scratch/target"
    as_stranger 1m sh -c 'id && command -v cargo && cargo --version && rustc --version'
    digest_of_copy >"$scratch/digest-before"
}

digest_of_copy() (
    cd "$scratch/copy"
    git ls-files -z --cached --others --exclude-standard | xargs --null sha256sum
)

unused_user_id() {
    local id=$((50000 + $$ % 9000))
    while getent passwd "$id" >/dev/null || getent group "$id" >/dev/null ||
        [[ -n "$(find /proc -maxdepth 1 -name '[0-9]*' -uid "$id" 2>/dev/null)" ]]; do
        id=$((id + 1))
    done
    echo "$id"
}

# The commit, and over it what is changed and not committed yet; in a fresh clone that is nothing.
copy_sources() {
    git clone --quiet --no-checkout --no-hardlinks "$root" "$scratch/copy"
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' path; do
            [[ ! -e "$path" && ! -L "$path" ]] || printf '%s\0' "$path"
        done |
        tar --create --null --files-from - |
        tar --extract --directory "$scratch/copy"
    git -C "$scratch/copy" reset --quiet
}

# A toolchain in the caller's home is out of the user's reach: a copy is not. It costs 600 MB and
# two seconds, and leaves the home's permissions alone.
copy_toolchain() {
    local sysroot
    sysroot="$(rustc --print sysroot)"
    if [[ -x "$sysroot/bin/cargo" ]] && can_stranger_run "$sysroot/bin/cargo"; then
        ln -s "$sysroot" "$scratch/toolchain"
        return
    fi
    mkdir "$scratch/toolchain"
    cp --archive "$sysroot/bin" "$sysroot/lib" "$scratch/toolchain"
    chmod -R go+rX "$scratch/toolchain"
}

# Through a shell: setpriv itself still has root's rights when it starts a program.
can_stranger_run() {
    setpriv --reuid "$(<"$scratch/uid")" --regid "$(<"$scratch/uid")" --clear-groups \
        sh -c 'exec "$0" --version' "$1" >/dev/null 2>&1
}

# in_copy HOME COMMAND..: runs a command in the copy, in an environment of its own. Root and the
# user get the same one but for HOME, so that what one has built is fresh for the other.
in_copy() {
    local home="$1"
    shift
    cd "$scratch/copy"
    env -i "$run_mark" HOME="$home" CARGO_HOME="$home/cargo" TMPDIR="$home/tmp" \
        PATH="$scratch/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        CARGO_TARGET_DIR="$scratch/target" CARGO_NET_OFFLINE=true CARGO_INCREMENTAL=0 \
        CARGO_TERM_COLOR=never GIT_CONFIG_GLOBAL="$scratch/gitconfig" \
        CI=true LC_ALL=C RUST_BACKTRACE=1 "$@"
}

# as_stranger LIMIT COMMAND..: as the unprivileged user.
as_stranger() {
    local limit="$1" uid
    shift
    uid="$(<"$scratch/uid")"
    in_copy "$scratch/user" timeout --foreground --kill-after=10s "$limit" \
        setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs "$@"
}

stranger_tests() {
    if ! grep --quiet --fixed-strings "$README_TESTS" README.md; then
        echo "README.md does not name the command that is run here: $README_TESTS" >&2
        return 1
    fi
    # shellcheck disable=SC2086 # a command line
    as_stranger 25m $README_TESTS
}

stranger_demo() {
    local status=0
    as_stranger 15m cargo build --release
    as_stranger 5m cargo run --quiet --release -- demo --entries 20000 --rounds 2
    # 75: too few slices on a machine that moved. What is counted holds all the same.
    as_stranger 5m cargo run --quiet --release -- demo --json --entries 20000 --rounds 8 \
        >"$scratch/demo.json" || status=$?
    ((status == 0 || status == 75))
    head -c 2000 "$scratch/demo.json"
    jq --exit-status '[.results[] | {(.name): .value}] | add
        | .errors == 0 and .scar_round_trips == 1 and .two_reads_round_trips == 2
            and (.packets_per_op_window_1 - 2 | fabs) < 0.005' "$scratch/demo.json"
}

stranger_benches() {
    if ! cargo metadata --locked --no-deps --format-version 1 |
        jq --exit-status 'any(.packages[] | select(.name == "nic-benches") | .targets[].kind[];
            . == "bench")' >/dev/null; then
        echo "skipped: nic-benches has no bench targets yet"
        return 77
    fi
    as_stranger 15m cargo bench -p nic-benches -- --test
}

# Once through: what is counted has to be right even then.
stranger_hostile() {
    local status=0
    as_stranger 15m cargo build --release -p nic-benches
    as_stranger 5m cargo run --quiet --release -p nic-benches -- hostile --json --rounds 1 \
        >"$scratch/hostile.json" || status=$?
    ((status == 0 || status == 75))
    head -c 2000 "$scratch/hostile.json"
    jq --exit-status '[.results[] | {(.name): .value}] | add
        | .crashes == 0 and .outside_accesses == 0 and .ops_lost == 0
            and .kernel_ops_untyped == 0 and .kernel_ops > 10000
            and .ops > 1000 and .kills > 0' "$scratch/hostile.json"
}

# Once through and with little memory: every mode's values are compared. On a machine that moved all
# the time, 75, not every picture has a good slice to show.
stranger_kernels() {
    local status=0 plots="$scratch/user/tmp/plots" plot
    as_stranger 15m cargo build --release -p nic-benches
    as_stranger 1m cargo run --quiet --release -p nic-benches -- kernels --json --small --rounds 1 \
        --plot "$plots" >"$scratch/kernels.json" || status=$?
    for plot in "$plots"/*.svg; do
        if [[ -e "$plot" && "$(head -c 4 "$plot")" != "<svg" ]]; then
            echo "$(basename "$plot") is no picture" >&2
            status=1
        fi
    done
    if [[ ! -e "$plots/interleaving.svg" ]] && ((status == 0)); then
        echo "there is no picture of the executor's walks" >&2
        status=1
    fi
    rm -rf "$plots"
    head -c 2000 "$scratch/kernels.json"
    ((status == 0 || status == 75))
    jq --exit-status '[.results[] | {(.name): .value}] | add
        | {errors, failed_slices, ops}, (.errors == 0 and .failed_slices == 0 and .ops > 1000)' \
        "$scratch/kernels.json"
}

stranger_left_nothing() {
    local uid left
    uid="$(<"$scratch/uid")"
    no_marked_processes
    left="$(find "$scratch/user/tmp" /dev/shm /tmp -mindepth 1 -user "$uid" 2>/dev/null)" || true
    if [[ -n "$left" ]]; then
        echo "files that the tests made and did not remove:" >&2
        head -n 20 <<<"$left" >&2
        return 1
    fi
    if ! digest_of_copy | diff "$scratch/digest-before" -; then
        echo "the tests changed these files (Cargo.lock: it was behind Cargo.toml)" >&2
        return 1
    fi
}

# What the user has built serves root too. Documentation examples stay out: for them, "ignored" says
# that they are not meant to run.
root_tests() {
    provide_huge_pages 16
    in_copy "$scratch/root" timeout --foreground --kill-after=10s 15m \
        cargo test --workspace --no-fail-fast --lib --bins --tests --examples -- --include-ignored 2>&1 |
        tee "$scratch/root-tests.log"
}

root_left_nothing() {
    local left
    no_marked_processes
    left="$(find "$scratch/root/tmp" -mindepth 1)"
    if [[ -n "$left" ]]; then
        echo "files that root's tests made and did not remove:" >&2
        head -n 20 <<<"$left" >&2
        return 1
    fi
}

#!/usr/bin/env bash
# Whether every test that SPECIFICATION.md names has run and passed.
#
#   bash ci/specification.sh LOG..     logs of `cargo test` runs, standard error included
#
# Fails naming each promised test that is in none of the logs, was ignored or did not pass.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# == 0)); then
    echo "usage: bash ci/specification.sh LOG..; found no log" >&2
    exit 2
fi

# One line for each test in the logs: its outcome and BINARY::NAME. Cargo names the binary, with a
# hash at its end, before the tests of each binary.
outcomes() {
    awk '
        /^ *Running .*\(.*\)$/ {
            binary = $NF
            gsub(/^\(.*\/|-[0-9a-f]+\)$/, "", binary)
        }
        /^ *Doc-tests / { binary = "doc" }
        /^test .* \.\.\. / && binary != "doc" {
            outcome = $0
            sub(/^.* \.\.\. /, "", outcome)
            sub(/[ ,].*$/, "", outcome)
            print outcome, binary "::" $2
        }' "$@" | sort --unique
}

# The names in the last column of the tables.
promised() {
    sed --quiet 's/^|.*|\([^|]*\)|$/\1/p' SPECIFICATION.md | grep --only-matching '`[^`]*`' |
        tr --delete '`' | sort --unique
}

found="$(outcomes "$@")"
names="$(promised)"
if [[ -z "$names" ]]; then
    echo "SPECIFICATION.md names no tests; its tables have them in their last column" >&2
    exit 1
fi
missing=0
while read -r name; do
    if grep --quiet --line-regexp --fixed-strings "ok $name" <<<"$found"; then
        continue
    fi
    missing=$((missing + 1))
    outcome="$(awk -v name="$name" '$2 == name { print $1; exit }' <<<"$found")"
    echo "$name: ${outcome:-not among the tests that ran}" >&2
done <<<"$names"
if ((missing > 0)); then
    echo "$missing of the $(wc -l <<<"$names") tests of SPECIFICATION.md did not pass" >&2
    exit 1
fi
echo "all $(wc -l <<<"$names") tests of SPECIFICATION.md have passed"

#!/bin/sh
# Runs fuzz targets for a number of CPU seconds each, and prints a table: executions, coverage, features, corpus.
#
#     ./run.sh SECONDS [TARGET...]        all targets where none is named; JOBS=2 runs two at a time; TIMEOUT=600 lets one input take ten
#                                      minutes, on a machine that has other work
#
# Needs `cargo install cargo-fuzz`. Coverage-guided without a sanitizer, so that stable Rust suffices: our crates have no unsafe code to
# watch, and every overflow and debug assertion is a finding.
set -eu
# Progress lines hold bytes of inputs.
export LC_ALL=C
cd "$(dirname "$0")"
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
seconds=$1
shift
targets=${*:-$(cd fuzz_targets && ls | sed 's/\.rs$//')}
triple=$(rustc -vV | sed -n 's/^host: //p')
bin="target/$triple/release"
mkdir -p logs artifacts

cargo fuzz build --fuzz-dir . --sanitizer none

# CPU ticks that a process has used: user and system.
ticks() { cut -d ' ' -f 14,15 "/proc/$1/stat" 2>/dev/null | tr ' ' '+'; }

one() {
    target=$1
    mkdir -p "corpus/$target" "artifacts/$target"
    "$bin/$target" "corpus/$target" "corpus-seeds/$target" -artifact_prefix="artifacts/$target/" \
        -timeout="${TIMEOUT:-30}" -rss_limit_mb=4096 -print_final_stats=1 >"logs/$target.log" 2>&1 &
    pid=$!
    limit=$((seconds * $(getconf CLK_TCK)))
    used=0
    while now=$(ticks "$pid") && [ -n "$now" ]; do
        used=$(($now))
        [ "$used" -lt "$limit" ] || { kill -INT "$pid" 2>/dev/null || true; break; }
        sleep 1
    done
    wait "$pid" 2>/dev/null || true
    log="logs/$target.log"
    last=$(grep -a 'cov:' "$log" | tail -n 1)
    field() { echo "$last" | sed -n "s/.* $1: \([0-9]*\).*/\1/p"; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    findings=$(find "artifacts/$target" -type f | wc -l)
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$target" "$((used / $(getconf CLK_TCK)))" "${runs:-?}" \
        "$(field cov)" "$(field ft)" "$(field corp)" "$findings" | tee "logs/$target.row"
}

echo '| target | CPU seconds | executions | cov | ft | corpus | findings |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
running=0
for target in $targets; do
    one "$target" &
    running=$((running + 1))
    if [ "$running" -ge "${JOBS:-1}" ]; then
        wait
        running=0
    fi
done
wait

#!/usr/bin/env bash
# Fuzzes each target of tests/fuzz with libFuzzer under the address and undefined sanitizers.
#
#   tests/fuzz/run.sh [NAME...]         FUZZ_SECONDS (20) for each, FUZZ_JOBS (2) at a time
#   tests/fuzz/run.sh --minimise NAME...  rewrites tests/fuzz/corpus/NAME: the smallest inputs that
#                                       reach all the code that seeds and what was found reach
#
# What is found beside the committed corpus stays in build-fuzz/corpus. An input at fault is put into
# build-fuzz/faults; when it is mended, it goes into the corpus under a name that says what it was.
set -eu
cd "$(dirname "$0")/../.."
build=build-fuzz
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}

probe() {
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return !d && n; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null
}
if ! probe; then
    echo "skipped: fuzzing: needs clang with libFuzzer (Debian: clang libclang-rt-dev)"
    exit 0
fi
MAKEFLAGS='' make -j"$(nproc)" --no-print-directory CC=clang BUILD=$build \
    SANITIZER=fuzzer-no-link,address,undefined fuzz-targets

minimise() { # minimise NAME
    local new=$build/minimised/$1
    rm -rf "$new" && mkdir -p "$new" "$build/corpus/$1"
    # Edges, not counts of them: the corpus stays small. Inputs of faults keep their names.
    "$build/tests/fuzz/$1.fuzz" -merge=1 -use_counters=0 -max_len=4096 "$new" \
        "$build/seeds/$1" "$build/corpus/$1" "tests/fuzz/corpus/$1" 2>"$build/$1.log"
    mkdir -p "tests/fuzz/corpus/$1"
    find "tests/fuzz/corpus/$1" -type f ! -name 'fault-*' -delete
    cp "$new"/* "tests/fuzz/corpus/$1/"
    echo "$1: $(find "tests/fuzz/corpus/$1" -type f | wc -l) inputs"
}

if [ "${1:-}" = --minimise ]; then
    shift
    python3 tests/fuzz/seeds.py $build/seeds
    for name in "$@"; do
        mkdir -p "tests/fuzz/corpus/$name"
        minimise "$name"
    done
    exit
fi

# The line that libFuzzer ends with has no counts of coverage, the one before it has.
summary() { # summary NAME STATUS
    local log=$build/$1.log execs edges features
    execs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -nE 's/^#[0-9]+.* cov: ([0-9]+).*/\1/p' "$log" | tail -n 1)
    features=$(sed -nE 's/^#[0-9]+.* ft: ([0-9]+).*/\1/p' "$log" | tail -n 1)
    printf '%-12s %10s runs %6s s of CPU %7s edges %7s features  %s\n' "$1" "${execs:-?}" \
        "$(awk '{ print $1 + $2 }' "$build/$1.cpu")" "${edges:-?}" "${features:-?}" \
        "$([ "$2" = 0 ] && echo clean || echo "FAULT: $log")"
}

fuzz() { # fuzz NAME
    local name=$1 status=0 dictionary=tests/fuzz/$1.dict
    mkdir -p "$build/corpus/$name" "$build/faults"
    [ -f "$dictionary" ] || dictionary=tests/fuzz/json.dict
    local TIMEFORMAT='%0U %0S' # seconds that it computed: others may use the cores as well
    { time "$build/tests/fuzz/$name.fuzz" -max_total_time="${FUZZ_SECONDS:-20}" -max_len=4096 \
        -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 -dict="$dictionary" \
        -artifact_prefix="$build/faults/$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" \
        >"$build/$name.log" 2>&1; } 2>"$build/$name.cpu" || status=1
    summary "$name" $status
    if [ $status != 0 ]; then
        grep -vE '^#[0-9]+|^NEW_FUNC' "$build/$name.log" | tail -n 60
    fi
    return $status
}

names=("$@")
if [ $# = 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        names+=("${name%.c}")
    done
fi
failed=0 running=0
for name in "${names[@]}"; do
    if [ $running -ge "${FUZZ_JOBS:-2}" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    fuzz "$name" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed

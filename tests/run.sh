#!/usr/bin/env bash
# Runs test programs and checks, and counts: BUILD=build tests/run.sh [program...]
#
# Without arguments: every program under $BUILD/tests. Programs speak TAP (cmocka's), and so do the
# checks, which are shell scripts. The longest come first, so that no core waits for them at the end.
# One line each in a fixed order, failures in full, every skip by its name, and last "N passed, N
# failed, N skipped". A program that crashes, ends with another status than its tests explain, stops
# early, takes too long or tests nothing is a failure too.
#
#   TEST_JOBS=2        programs that run at the same time; beside several those that mostly wait, one
#                      after the other
#   TEST_TIMEOUT=300   seconds for each
#   TEST_CHECKS="..."  scripts to run as well; empty: none
#   TEST_ONLY="..."    patterns of the programs to run, as they are listed: "http/* unit/test_pool*",
#                      with one * each
#   TEST_EXCEPT="..."  patterns of those to leave out
#   TEST_PATIENCE=1    times two minutes that a request over HTTP may take
set -u
cd "$(dirname "$0")/.." || exit 2

export BUILD=${BUILD:-build}
export CMOCKA_MESSAGE_OUTPUT=TAP
jobs=${TEST_JOBS:-2}
limit=${TEST_TIMEOUT:-300}
checks=${TEST_CHECKS-tests/demo.sh tests/readme.sh tests/prometheus.sh tests/browser.sh tests/image.sh tests/hardening.sh}

if [ $# -gt 0 ]; then
    programs=("$@")
else
    mapfile -t programs < <(find "$BUILD/tests" -name '*.test' 2>/dev/null | sort)
fi
matches() { # matches PROGRAM PATTERNS
    local pattern patterns
    read -ra patterns <<<"$2"
    for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2053  # a pattern
        [[ ${1#"$BUILD"/tests/} == $pattern ]] && return
    done
    return 1
}
longest="*/test_golden_both* */test_determinism_both* */test_faults* */test_detector* */test_gone* \
*/test_templates* */test_crash*"
mostly_wait="*/test_bad_clients* */test_events* */test_repository* */test_server* */test_tls*"
first=() rest=()
for program in ${programs[@]+"${programs[@]}"}; do
    matches "$program" "${TEST_ONLY:-*}" || continue
    ! matches "$program" "${TEST_EXCEPT:-}" || continue
    if matches "$program" "$longest"; then first+=("$program"); else rest+=("$program"); fi
done
programs=(${first[@]+"${first[@]}"} ${rest[@]+"${rest[@]}"})
# shellcheck disable=SC2206  # a list of words
programs=($checks ${programs[@]+"${programs[@]}"})

# What a sanitizer finds is a failure; its report is shown with the test. It handles SIGSEGV, not
# cmocka, so that there is a stack. The check for use after return stays off: with it, compilers
# before gcc 12.4 align vectors of 64 bytes on the stack to 32, and loading those is a fault.
suppressions() {
    local file=$PWD/tests/support/$1.supp
    [ -f "$file" ] && printf ':suppressions=%s' "$file"
}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0:handle_segv=2:handle_abort=2:exitcode=99}
export LSAN_OPTIONS=${LSAN_OPTIONS:-exitcode=99:print_suppressions=0$(suppressions leak)}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1:handle_segv=2}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=99:second_deadlock_stack=1:handle_segv=2$(suppressions thread)}

work=$(mktemp -d "${TMPDIR:-/tmp}/backpropd-run-XXXXXX") || exit 2
# Temporary files of the tests lie there too, so that those of a crash go as well.
mkdir "$work/tmp" && export TMPDIR=$work/tmp
trap 'rm -rf "$work"' EXIT
lane=
interrupt() {
    [ -z "$lane" ] || kill "$lane" 2>/dev/null
    for file in "$work"/*.pid; do
        [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    exit 130
}
trap interrupt INT TERM

# run_program PLACE PROGRAM: leaves PLACE.log and PLACE.end (exit status, seconds).
run_program() {
    local begin=$EPOCHREALTIME end status command=("$2")
    [[ $2 == *.sh ]] && command=(env DEMO_CHECK=1 bash "$2")
    timeout -k 10 "$limit" "${command[@]}" >"$work/$1.log" 2>&1 </dev/null &
    echo $! >"$work/$1.pid"
    wait $!
    status=$?
    end=$EPOCHREALTIME
    rm -f "$work/$1.pid"
    awk -v s="$status" -v a="$begin" -v b="$end" 'BEGIN { printf "%d %.1f\n", s, b - a }' >"$work/$1.end.part"
    mv "$work/$1.end.part" "$work/$1.end"
}

# Reads TAP on its input. Prints "passed failed skipped reason", then a line for each skip.
count_tap() {
    awk -v status="$1" -v limit="$limit" '
        /^[ \t]*1\.\.[0-9]+/ { sub(/^[ \t]*1\.\./, ""); planned += $0 + 0; next }
        # cmocka writes "not ok 3 # SKIP name".
        /^(not )?ok .*# *SKIP/ { name = $0; sub(/.*# *SKIP */, "", name); skips[skipped++] = name; next }
        /^not ok / { failed++; next }
        /^ok / { passed++ }
        END {
            seen = passed + failed + skipped
            if (status == 124 || status == 137)
                reason = "still running after " limit " seconds"
            else if (status > 128 && status <= 192)
                reason = "ended by signal " status - 128
            else if (seen < planned)
                reason = "stopped after " seen " of " planned " tests, exit status " status
            else if (status && !failed)
                reason = "exit status " status
            else if (!seen)
                reason = "no test ran"
            if (reason)
                failed++
            printf "%d %d %d %s\n", passed, failed, skipped, reason
            for (i = 0; i < skipped; i++)
                print skips[i]
        }'
}

passed=0 failed=0 skipped=0
report() {
    local name=$2 status seconds p f s reason skips
    name=${name#"$BUILD"/tests/}
    name=${name#tests/}
    read -r status seconds <"$work/$1.end"
    { read -r p f s reason && mapfile -t skips; } < <(count_tap "$status" <"$work/$1.log")
    printf '%-44s %4d passed %3d failed %3d skipped %7ss\n' "${name%.test}" "$p" "$f" "$s" "$seconds"
    for skip in ${skips[@]+"${skips[@]}"}; do
        printf '    skipped: %s\n' "$skip"
    done
    if [ "$f" -gt 0 ]; then
        sed 's/^/    | /' "$work/$1.log"
        [ -n "$reason" ] && printf '    | FAILED: %s\n' "$reason"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    rm -f "$work/$1.log"
}

# Reports what has ended, in order; `next` is the first that has not been reported.
next=0
report_ended() {
    while [ -f "$work/$next.end" ]; do
        report "$next" "${programs[next]}"
        next=$((next + 1))
    done
}

now=() later=()
for i in "${!programs[@]}"; do
    if [ "$jobs" -gt 1 ] && matches "${programs[i]}" "$mostly_wait"; then later+=("$i"); else now+=("$i"); fi
done
for i in ${later[@]+"${later[@]}"}; do
    run_program "$i" "${programs[i]}"
done &
lane=$!
declare -A running=()
for i in ${now[@]+"${now[@]}"}; do
    if [ "${#running[@]}" -ge "$jobs" ]; then
        wait -n -p ended "${!running[@]}"
        unset "running[$ended]"
        report_ended
    fi
    run_program "$i" "${programs[i]}" &
    running[$!]=1
done
wait
report_ended

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

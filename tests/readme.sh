#!/usr/bin/env bash
# Runs the blocks of README.md that are marked <!-- tested -->, in their order and as they stand, against a
# daemon of its own. A line "#> text" says what the commands before it print: the parts between "..." must
# appear in that order. TAP on stdout.
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
T=$(mktemp -d)
daemon=
trap '[ -n "$daemon" ] && kill "$daemon" 2>/dev/null; wait; rm -rf "$T"' EXIT

"$BUILD/backpropd" --listen 127.0.0.1:0 --data "$T/data" --port-file "$T/port" 2>"$T/log" &
daemon=$!
for _ in $(seq 100); do [ -s "$T/port" ] && break; sleep 0.1; done
[ -s "$T/port" ] || { echo "not ok 1 - the daemon starts"; cat "$T/log"; echo 1..1; exit 1; }
U=http://$(cat "$T/port")

# expect TEXT: what the last commands printed into $T/out has these parts in this order.
expect() {
    local rest part text=$1...
    rest=$(cat "$T/out")
    while [ -n "$text" ]; do
        part=${text%%...*}
        text=${text#*...}
        case $rest in
        *"$part"*) rest=${rest#*"$part"} ;;
        *) printf '# expected: %s\n# printed: %s\n' "$1" "$(cat "$T/out")"; failed=1; return ;;
        esac
    done
}

# Each block becomes a file: groups of commands with their output in $T/out, and calls of expect.
awk -v dir="$T" '
    /^<!-- tested -->/ { tested = 1; next }
    /^```sh/ && tested { block++; file = dir "/block" block; inside = 1; print "{" > file; next }
    /^```/ && inside { print ":; } >\"$T/out\" 2>&1" > file; close(file); inside = tested = 0; next }
    inside && /^#> / { q = substr($0, 4); gsub(/\047/, "\047\\\047\047", q)
        print ":; } >\"$T/out\" 2>&1; expect \047" q "\047; {" > file; next }
    inside { print > file }' README.md

n=0
bad=0
for file in $(ls "$T"/block* | sort -V); do
    n=$((n + 1))
    failed=0
    # shellcheck disable=SC1090
    . "$file"
    first=$(sed -n '/^{$/!{p;q}' "$file" | cut -c1-70)
    if [ $failed = 0 ]; then echo "ok $n - README: $first"; else echo "not ok $n - README: $first"; bad=1; fi
done
n=$((n + 1))
kill -TERM "$daemon"
wait "$daemon"
status=$?
daemon=
if [ $status = 0 ]; then echo "ok $n - SIGTERM ends the daemon"; else echo "not ok $n - SIGTERM: status $status"; bad=1; fi
echo "1..$n"
exit $bad

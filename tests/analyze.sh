#!/usr/bin/env bash
# Static analysis: clang's analyser and cppcheck over engine/ and server/. Prints what they find
# beyond tests/support/analyze.supp and ends with 1 then: BUILD=build tests/analyze.sh [file...]
#
# A line of the list is "tool:checker:file  reason"; a line that matches nothing any more is found
# too, so that the list does not outlive its reasons. ANALYZE_JOBS (2) run at the same time.
set -u
cd "$(dirname "$0")/.." || exit 2
jobs=${ANALYZE_JOBS:-2}
list=tests/support/analyze.supp
work=$(mktemp -d "${TMPDIR:-/tmp}/backpropd-analyze-XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT

whole=$([ $# -eq 0 ] && echo 1)
files=("$@")
# The kernels are compiled for several instruction sets by macros that the Makefile gives.
[ $# -gt 0 ] || mapfile -t files < <(find engine server -name '*.c' ! -name kernels_simd.c | sort)
for tool in clang cppcheck; do
    command -v "$tool" >/dev/null 2>&1 || {
        echo "analyze: $tool is not installed" >&2
        exit 2
    }
done

# Both print "FILE:LINE:COLUMN: ... [CHECKER]".
read -ra flags <<<"$(pkg-config --cflags libmicrohttpd jansson openblas sqlite3 gnutls)"
flags+=(-std=gnu11 -Iengine -Iserver '-DCHART_JS="/dev/null"')
printf '%s\n' "${files[@]}" |
    xargs -P "$jobs" -I{} sh -c 'out=$1; file=$2; shift 2
        clang --analyze --analyzer-output text "$@" "$file" >"$out/$(echo "$file" | tr / _).clang" 2>&1
        ' _ "$work" {} "${flags[@]}"
# invalidPointerCast: arenas hold numbers of several types; each place is aligned for its own.
cppcheck --quiet --suppress=invalidPointerCast --std=c11 --library=gnu --enable=warning,portability -j "$jobs" -Iengine -Iserver \
    -D__GNUC__ --template='{file}:{line}:{column}: {severity}: {message} [{id}]' \
    --template-location='' "${files[@]}" >"$work/cppcheck" 2>&1

# "tool:checker:file" in front of each finding, once.
{
    sed -nE 's/^([^: ]+\.[ch]):[0-9]+:[0-9]+: (warning|error): .*\[(.*)\]$/clang:\3:\1\t&/p' "$work"/*.clang
    grep -hE '^[^: ]+:[0-9]+:[0-9]+: (fatal )?error: ' "$work"/*.clang | grep -v '\[' | sed 's/^/clang:error\t/'
    sed -nE 's/^([^: ]+\.[ch]):[0-9]+:[0-9]+: .*\[(.*)\]$/cppcheck:\2:\1\t&/p' "$work/cppcheck"
} | sort -u >"$work/found"
awk 'NF && $1 !~ /^#/ { print $1 }' "$list" | sort -u >"$work/known"

status=0
while IFS=$'\t' read -r key text; do
    grep -qxF "$key" "$work/known" && continue
    echo "$key: $text"
    status=1
done <"$work/found"
cut -f1 "$work/found" | sort -u >"$work/keys"
if [ "$whole" ]; then
    while read -r key; do
        echo "$list: $key is no longer found: take it out"
        status=1
    done < <(comm -23 "$work/known" "$work/keys")
fi
echo "analyze: ${#files[@]} files, $(comm -12 "$work/known" "$work/keys" | wc -l) explained in $list"
exit $status

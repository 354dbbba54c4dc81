#!/usr/bin/env bash
# The protections that the binary is built with, as checksec looks for them: position-independent,
# all relocations read-only, no executable stack, no writable code, stack protector, FORTIFY, and on
# x86-64 stack probes and indirect branch tracking; and what the container is started with. TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
binary=${BUILD:-build}/backpropd
n=0 failed=0
check() { # check NAME COMMAND...
    local name=$1
    shift
    n=$((n + 1))
    if "$@" >/dev/null 2>&1; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
        failed=1
    fi
}
if ! command -v readelf >/dev/null || ! command -v objdump >/dev/null; then
    printf '1..1\nok 1 # SKIP readelf and objdump (binutils) are not here\n'
    exit 0
fi

header=$(readelf -hW "$binary")
segments=$(readelf -lW "$binary")
dynamic=$(readelf -dW "$binary")
symbols=$(readelf --dyn-syms -W "$binary")
has() { grep -qE "$2" <<<"$1"; }
has_not() { ! grep -qE "$2" <<<"$1"; }

check "position-independent" has "$header" 'Type: +DYN'
check "relocations read-only" has "$segments" GNU_RELRO
check "symbols bound at start" has "$dynamic" 'FLAGS.*(BIND_NOW|NOW)'
check "no executable stack" has "$segments" 'GNU_STACK.* RW '
check "no segment writable and executable" has_not "$segments" ' RWE '
check "no text relocations" has_not "$dynamic" TEXTREL
check "no path of the build for libraries" has_not "$dynamic" '(RPATH|RUNPATH)'
check "stack protector" has "$symbols" __stack_chk_fail
# A sanitizer has its own checks in place of these.
if ! has "$symbols" '__(asan|tsan|ubsan)_'; then
    check "FORTIFY_SOURCE" has "$symbols" '__(snprintf|memcpy|vsnprintf|fprintf|printf)_chk'
    if has "$header" 'Machine:.*X86-64'; then
        # A frame of more than a page is probed page by page: "or $0x0,(%rsp)".
        probed() { objdump -d --no-show-raw-insn "$binary" | grep -m1 -E 'orq +\$0x0,(\(%rsp\)|0x[0-9a-f]+\(%rsp\))'; }
        check "stack probes" probed
        tracked() { objdump -d --no-show-raw-insn --disassemble=main "$binary" | grep -m1 endbr64; }
        check "functions are marked as targets of branches" tracked
    fi
fi

compose=$(cat docker/compose.yaml)
check "container: root read-only" has "$compose" 'read_only: true'
check "container: no capabilities" has "$compose" 'cap_drop: \[ALL\]'
check "container: no new privileges" has "$compose" 'no-new-privileges:true'
check "container: another user than root" grep -q '^USER backpropd' docker/Dockerfile
echo "1..$n"
exit $failed

#!/usr/bin/env bash
# The dashboard in headless Chromium. Speaks TAP; is skipped where Chromium, Node.js or
# playwright-core is missing. With BROWSER_INSTALL=1 (make test-browser) it fetches playwright-core
# with npm into $BUILD/browser first, and what is missing is a failure.
set -eu
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build}

skip() {
    echo "1..1"
    [ "${BROWSER_INSTALL:-}" ] && echo "not ok 1 - $1" && exit 1
    echo "ok 1 # SKIP dashboard in a browser: $1; make test-browser installs it"
    exit 0
}

if [ "${BROWSER_INSTALL:-}" ]; then
    mkdir -p "$BUILD/browser"
    cp tests/browser/package.json "$BUILD/browser/"
    [ -d "$BUILD/browser/node_modules/playwright-core" ] ||
        npm install --prefix "$BUILD/browser" --silent --no-audit --no-fund >&2
fi
command -v node >/dev/null || skip "no node"
command -v chromium >/dev/null || [ "${CHROMIUM:-}" ] || skip "no chromium"
[ -d "$BUILD/browser/node_modules/playwright-core" ] || skip "no playwright-core"
status=0
node tests/browser/dashboard.mjs 2>"$BUILD/browser/daemon.log" || status=$?
[ "$status" = 0 ] || tail -n 40 "$BUILD/browser/daemon.log" >&2
exit "$status"

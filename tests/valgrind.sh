#!/usr/bin/env bash
# The tests over HTTP with the daemon under valgrind: an error or a block that is lost at the exit
# fails the test that started the daemon. BUILD=build tests/valgrind.sh [test...]
#
# In place of the binary the tests find a script that starts valgrind with it. The sandbox stays off:
# valgrind writes the code that it runs, and memory that is writable and executable is refused there.
# tests/support/valgrind.supp has what libraries do, with the reason of each.
set -u
cd "$(dirname "$0")/.." || exit 2
export BUILD=${BUILD:-build}
command -v valgrind >/dev/null 2>&1 || {
    echo "valgrind is not installed" >&2
    exit 2
}
names=("$@")
[ $# -gt 0 ] || names=(test_models test_train test_infer test_infer_training
    test_across_batch test_keys_evaluations test_errors test_versions test_weights
    test_events test_evaluate test_encoding test_tls test_once test_keys test_json test_binary
    test_aliases test_wire test_images test_images_refused test_origin test_augment test_changes
    test_dashboard test_diagnosis test_signals test_signals_recorded test_gradients test_ema
    test_plateau test_metrics test_provisioning test_batching test_restart test_observe test_server
    test_parallel test_commands test_detector)

work=$(mktemp -d "${TMPDIR:-/tmp}/backpropd-valgrind-XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
cat >"$work/backpropd" <<SCRIPT
#!/bin/sh
export BACKPROPD_SANDBOX=false
exec valgrind --quiet --fair-sched=try --error-exitcode=97 --leak-check=full --show-leak-kinds=definite,indirect,possible \\
    --errors-for-leak-kinds=definite,indirect,possible --num-callers=30 --child-silent-after-fork=yes \\
    --suppressions=$PWD/tests/support/valgrind.supp $PWD/$BUILD/backpropd "\$@"
SCRIPT
chmod +x "$work/backpropd"
mkdir "$work/tests" && ln -s "$PWD/$BUILD/tests/support" "$work/tests/support"

programs=()
for name in "${names[@]}"; do
    programs+=("$BUILD/tests/http/$name.float.test")
done
BUILD=$work TEST_PATIENCE=10 TEST_TIMEOUT=${TEST_TIMEOUT:-1800} TEST_CHECKS='' bash tests/run.sh "${programs[@]}"

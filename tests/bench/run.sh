#!/usr/bin/env bash
# make bench: training steps of the engine, and of PyTorch where python3 has torch, in turns
# (A B A B ...), so that a busy machine hurts both alike. Prints the medians as a table.
#   NETS, THREADS, ROUNDS, SECONDS_EACH, PYTHON in the environment change what is run.
set -euo pipefail
cd "$(dirname "$0")/../.."
bench=${BUILD:-build}/tests/bench/bench_train
nets=${NETS:-mlp lenet cifar resnet18}
threads=${THREADS:-1 2}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-2}
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

python=
for candidate in ${PYTHON:-python3 /usr/bin/python3}; do
    if "$candidate" -c 'import torch' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || echo "no PyTorch here: the engine alone"

for net in $nets; do
    for n in $threads; do
        for _ in $(seq "$rounds"); do
            "$bench" --threads "$n" --seconds "$seconds" "$net" | sed 's/^/engine /' >>"$lines"
            [ -z "$python" ] || "$python" tests/bench/torch_train.py --threads "$n" \
                --seconds "$seconds" "$net" | sed 's/^/torch /' >>"$lines"
        done
        awk -v net="$net" -v n="$n" '
            function median(values, count,    i, j, x) {
                for (i = 2; i <= count; i++)
                    for (j = i; j > 1 && values[j - 1] > values[j]; j--) {
                        x = values[j]; values[j] = values[j - 1]; values[j - 1] = x
                    }
                return values[int((count + 1) / 2)]
            }
            $2 == net && $4 == n && $1 == "engine" { engine[++e] = $7; rate[++r] = $(NF - 1) }
            $2 == net && $4 == n && $1 == "torch" { torch[++t] = $7 }
            BEGIN { format = "%-10s %d thread%s %10.1f examples/s %7.1f GFLOP/s" }
            END {
                ours = median(engine, e); theirs = t ? median(torch, t) : 0
                printf format, net, n, (n > 1 ? "s" : " "), ours, median(rate, r)
                if (t) printf "   PyTorch %10.1f   ratio %.2f", theirs, ours / theirs
                printf "\n"
            }' "$lines"
    done
done

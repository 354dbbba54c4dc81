#!/usr/bin/env bash
# The demo: a daemon, and a network that learns to read handwritten digits over HTTP.
#
# Everything that a client does is curl and JSON; bash, awk and sed are all else that it takes.
# Run by `make demo`. With DEMO_CHECK=1 it is a test instead: silent, ends by itself and says in TAP
# whether what it shows is true.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
data=tests/data/optdigits # real digits, 8x8 fields of ink from 0 to 16, and the answer
work=$build/demo          # request bodies, answers and the daemon's log; made anew each time
batch_size=64
epochs=8

# ---- the daemon ----------------------------------------------------------------------------------

if [ "${DEMO_CHECK:-}" ]; then # a folder of its own: others may run at the same time
    work=$(mktemp -d "${TMPDIR:-/tmp}/backpropd-demo-XXXXXX")
    exec 3>&1 >"$work/output"
else
    rm -rf "$work" && mkdir -p "$work"
fi

. tests/support/daemon.sh
trap 'echo; echo "Stopping."; stop; exit' INT TERM
echo "backpropd answers at $url"

# field NAME: the first number or text of that name in the answer.
field() {
    tr '{},' '\n' <"$work/answer" | sed -nE '/^"'"$1"'":/ { s/^[^:]*:"?([^"]*)"?$/\1/p; q }'
}

# ---- batches: rows of CSV to tensors in JSON -----------------------------------------------------

# rows_to_batches FILE SIZE SEED NAME [targets]: bodies NAME-000.json and so on. SEED 0 keeps order.
rows_to_batches() {
    awk -F, -v size="$2" -v seed="$3" -v name="$work/$4" -v targets="${5:-}" '
        { rows[NR] = $0 }
        function swap(i, j, row) { row = rows[i]; rows[i] = rows[j]; rows[j] = row }
        function shuffle(i) {
            srand(seed)
            for (i = NR; i > 1; i--)
                swap(i, 1 + int(rand() * i))
        }
        function write(first, n, file, i, k, ink, answers) {
            file = sprintf("%s-%03d.json", name, (first - 1) / size)
            printf "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[%d,1,8,8],\"data\":[", n > file
            for (i = 0; i < n; i++) {
                split(rows[first + i], ink)
                answers = answers (i ? "," : "") ink[65]
                for (k = 1; k <= 64; k++)
                    printf("%s%s", i + k > 1 ? "," : "", ink[k] / 16) > file
            }
            printf "]}]" > file
            if (targets)
                printf ",\"targets\":[{\"name\":\"target\",\"datatype\":\"INT64\",\"shape\":[%d],\"data\":[%s]}]", n, answers > file
            print "}" > file
            close(file)
        }
        END {
            if (seed)
                shuffle()
            for (first = 1; first <= NR; first += size)
                write(first, first + size > NR + 1 ? NR + 1 - first : size)
        }' "$1"
}

# ---- 1. a model ----------------------------------------------------------------------------------

ask PUT /v2/models/digits --data-binary '{
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
    "layers": [
        {"name": "conv1", "op": "conv2d", "out_channels": 32, "kernel_size": 3, "padding": 1, "bias": false},
        {"name": "bn1", "op": "batch_norm2d"}, {"op": "relu"},
        {"name": "conv2", "op": "conv2d", "out_channels": 64, "kernel_size": 3, "padding": 1, "bias": false},
        {"name": "bn2", "op": "batch_norm2d"}, {"op": "relu"},
        {"op": "max_pool2d", "kernel_size": 2},
        {"op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 10}],
    "loss": {"op": "cross_entropy"},
    "optimizer": {"op": "adamw", "lr": 0.002, "weight_decay": 0.01},
    "seed": 1,
    "labels": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]}'
echo "Created the model digits: two convolutions with batch norm, one linear layer."

# ---- 2. training ---------------------------------------------------------------------------------

# The line of a step: means of loss and accuracy over the last ten answers, and how far it is.
show_step() { # show_step STEP LAST
    tail -n 10 "$work/steps" | awk -v step="$1" -v last="$2" -F'[:,}]' '
        {
            for (i = 1; i < NF; i++) {
                if ($i ~ /"loss"$/)
                    loss += $(i + 1)
                if ($i ~ /"accuracy"$/)
                    accuracy += $(i + 1)
            }
        }
        END {
            printf "  step %3d/%d  loss %.4f  accuracy %5.1f%%  ", step, last, loss / NR, 100 * accuracy / NR
            for (i = 1; i <= 30; i++)
                printf "%s", i <= 30 * step / last ? "█" : "░"
        }'
}

rows=$(wc -l <"$data/optdigits.tra")
steps=$((epochs * ((rows + batch_size - 1) / batch_size)))
echo "Training: $epochs times through $rows digits, $steps steps of $batch_size examples, each a curl."
step=0
began=$SECONDS
for ((epoch = 1; epoch <= epochs; epoch++)); do
    rows_to_batches "$data/optdigits.tra" "$batch_size" "$epoch" train targets
    for batch in "$work"/train-*.json; do
        ask POST /v2/models/digits/train_step --data-binary "@$batch"
        echo "$(<"$work/answer")" >>"$work/steps"
        step=$((step + 1))
        # A terminal shows one line that moves; elsewhere a line now and then.
        if [ -t 1 ] && { [ $((step % 5)) -eq 0 ] || [ "$step" -eq 1 ]; }; then
            printf '\r' && show_step "$step" "$steps"
        elif [ ! -t 1 ] && [[ " 1 10 20 40 80 " == *" $step "* ]]; then
            show_step "$step" "$steps" && echo
        fi
    done
    [ -t 1 ] && printf '\r'
    show_step "$step" "$steps" && echo
done
echo "That took $((SECONDS - began)) seconds."

# ---- 3. gradients: a pure question ---------------------------------------------------------------

echo
echo "Gradients of the last batch, asked for without a step (norm of each parameter's):"
ask POST /v2/models/digits/gradients --data-binary "@$batch"
sed 's/{"name"/\n&/g' "$work/answer" |
    sed -nE 's/^\{"name":"([^"]*)".*"norm":([^,}]*).*/\1 \2/p' >"$work/norms"
awk '{ name[NR] = $1; norm[NR] = $2; if ($2 > top) top = $2 }
    END {
        for (i = 1; i <= NR; i++) {
            printf "  %-12s %10.6f  ", name[i], norm[i]
            for (k = 0; k < 30 && k < 30 * norm[i] / top; k++)
                printf "█"
            print ""
        }
    }' "$work/norms"

# ---- 4. predictions ------------------------------------------------------------------------------

echo
echo "Six digits that it has never seen, by writers that it has never seen:"
awk 'NR % 293 == 5' "$data/optdigits.tes" | head -n 6 >"$work/six.csv"
rows_to_batches "$work/six.csv" 6 0 six
sed -i 's/}$/,"outputs":[{"name":"probabilities"}]}/' "$work/six-000.json"
ask POST /v2/models/digits/infer --data-binary "@$work/six-000.json"

# The numbers of the answer's "data", ten a line.
answer_rows() {
    sed -nE 's/.*"data":\[([^]]*)\].*/\1/p' "$work/answer" | tr ',' '\n' | paste -d, - - - - - - - - - -
}

answer_rows | awk -F, -v digits="$work/six.csv" '
    BEGIN { split("  ,░░,▒▒,▓▓,██", shade) }
    { # a line of ten probabilities
        best = 1
        for (k = 2; k <= 10; k++)
            if ($k > $best)
                best = k
        said[NR] = best - 1
        sure[NR] = $best
    }
    END {
        while ((getline line < digits) > 0)
            ink[++n] = line
        for (y = 0; y < 8; y++) {
            for (i = 1; i <= n; i++) {
                split(ink[i], value)
                printf "  "
                for (x = 1; x <= 8; x++)
                    printf "%s", shade[1 + int((value[y * 8 + x] + 3) / 4)]
            }
            print ""
        }
        for (i = 1; i <= n; i++)
            printf "  %-16s", sprintf("a %d? (%.1f%%)", said[i], 100 * sure[i])
        print ""
        for (i = 1; i <= n; i++) {
            split(ink[i], value)
            printf "  %-16s", value[65] == said[i] ? "right" : "no, a " value[65]
        }
        print ""
    }'

# ---- 5. a version, and back to it ----------------------------------------------------------------

where() { # sets at_step, at_loss (of one fixed batch) and at_hash (of the whole state)
    ask POST /v2/models/digits/evaluate --data-binary "@$work/train-000.json"
    at_loss=$(field loss)
    ask GET '/v2/models/digits?state_sha256=1'
    at_step=$(field step) at_hash=$(field state_sha256)
    printf '  %-22s step %s, loss of one batch %.6f, state %.16s...\n' "$1" "$at_step" "$at_loss" "$at_hash"
}

echo
ask POST /v2/models/digits/versions --data-binary '{"note": "trained by the demo"}'
version=$(field version)
echo "Kept this state as version $version. Now 20 steps with a learning rate far too high, and back:"
where "version $version"
kept="$at_step $at_loss $at_hash"
for batch in "$work"/train-00[0-9].json "$work"/train-01[0-9].json; do
    sed 's/}$/,"parameters":{"lr":0.5}}/' "$batch" >"$work/rough.json"
    ask POST /v2/models/digits/train_step --data-binary "@$work/rough.json"
done
where "after 20 rough steps"
rough="$at_step $at_loss $at_hash"
ask POST "/v2/models/digits/versions/$version/restore"
where "rolled back"
restored="$at_step $at_loss $at_hash"

# ---- 6. how good is it? --------------------------------------------------------------------------

rows_to_batches "$data/optdigits.tes" 600 0 test
for batch in "$work"/test-*.json; do
    ask POST /v2/models/digits/infer --data-binary "@$batch"
    answer_rows
done | awk -F, -v digits="$data/optdigits.tes" '
    {
        best = 1
        for (k = 2; k <= 10; k++)
            if ($k > $best)
                best = k
        getline line < digits
        split(line, value)
        right += value[65] == best - 1
    }
    END { printf "%d %d %.4f\n", right, NR, right / NR }' >"$work/score"
read -r right total accuracy <"$work/score"
echo
echo "Of the $total test digits it reads $right right: accuracy $accuracy (nearest neighbour: 0.9800)."

# ---- the end -------------------------------------------------------------------------------------

if [ "${DEMO_CHECK:-}" ]; then
    n=0 wrong=0
    check() { # check SENTENCE CONDITION...
        local sentence=$1 result=ok
        shift
        "$@" || { result='not ok' && wrong=1; }
        echo "$result $((n += 1)) - $sentence" >&3
    }
    over_97() { [ "$total" = 1797 ] && awk -v a="$accuracy" 'BEGIN { exit !(a > 0.97) }'; }
    echo 1..4 >&3
    check "accuracy $accuracy on $total test digits is over 0.97" over_97
    check 'training moves the state' [ "$rough" != "$kept" ]
    check 'a restored version has the same step, loss and hash' [ "$restored" = "$kept" ]
    check 'SIGTERM ends the daemon with status 0' stop
    [ "$wrong" = 0 ] || cat "$work/output" "$work/log" >&3
    rm -rf "$work"
    exit "$wrong"
fi

cat <<END

The daemon stays up at $url until Ctrl-C. From another terminal, in this folder:

  curl $url/v2/models/digits
  curl $url/v2/models/digits/infer -d @$work/six-000.json
  curl '$url/v2/models/digits/metrics?names=loss&max_points=20'
END
wait "$daemon"

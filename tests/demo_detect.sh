#!/usr/bin/env bash
# The detector's demo: a daemon, and a network that learns over HTTP where digits are in noisy scenes.
#
# The scenes (96 x 96, one to five handwritten digits of optdigits) are made by build/tests/bench/scenes,
# those of the test with digits and by writers that training has not seen. All else is curl, awk and
# sed. Run by `make demo-detect`. DEMO_STEPS says for how long it trains; it ends with status 1 when
# mAP50 is not over 0.90.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
scenes=$build/tests/bench/scenes
data=tests/data/optdigits
work=$build/demo-detect # bodies, answers, the daemon's log and the picture; made anew each time
steps=${DEMO_STEPS:-1400}
batch_size=16 round=100 # batches are made a round at a time

rm -rf "$work" && mkdir -p "$work"
. tests/support/daemon.sh
echo "backpropd answers at $url"

# send VERB BODY: a body of scenes, whose header has its length beside it.
send() {
    ask POST "/v2/models/scenes/$1" --data-binary "@$2" \
        -H "Inference-Header-Content-Length: $(<"${2%.body}.length")"
}

# ---- 1. a model ----------------------------------------------------------------------------------

ask PUT /v2/models/scenes --data-binary '{
    "template": {"name": "yolo_tiny", "num_classes": 10, "image_size": 96, "channels": 1},
    "preprocess": {},
    "optimizer": {"op": "adamw", "lr": 0.003, "weight_decay": 0.01},
    "schedule": {"op": "cosine", "warmup_steps": 50, "total_steps": '"$steps"'},
    "seed": 1,
    "labels": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}'
echo "Created the detector scenes: yolo_tiny for ten digits."

# ---- 2. training ---------------------------------------------------------------------------------

# Means over the last answers, one a line of the file.
show_step() { # show_step STEP
    tail -n 50 "$work/steps" | awk -v step="$1" -v last="$steps" -v seconds="$((SECONDS - began))" -F'[:,}]' '
        {
            for (i = 1; i < NF; i++) {
                name = $i
                gsub(/[^a-z_]/, "", name)
                sum[name] += $(i + 1)
            }
        }
        END {
            printf "  step %4d/%d  %3d s  box %.3f  cls %.3f  dfl %.3f\n", step, last, seconds,
                sum["box_loss"] / NR, sum["cls_loss"] / NR, sum["dfl_loss"] / NR
        }'
}

make_round() { # make_round NUMBER: its scenes, under names of even and odd rounds
    "$scenes" "$data/optdigits.tra" $((round * batch_size)) "$batch_size" $((1000 + $1)) \
        "$work/train$(($1 % 2))"
}

echo "Training: $steps steps of $batch_size scenes, each a curl, no scene twice."
began=$SECONDS step=0
make_round 0
for ((number = 0; step < steps; number++)); do
    make_round $((number + 1)) & # while these are learnt
    for body in "$work/train$((number % 2))"-*.body; do
        [ "$step" -lt "$steps" ] || break
        send train_step "$body"
        echo "$(<"$work/answer")" >>"$work/steps"
        step=$((step + 1))
    done
    wait $!
    show_step "$step"
done

# ---- 3. fresh scenes -----------------------------------------------------------------------------

# Boxes of an answer as COCO detections. Objects end in "}"; the brackets before one say in which
# image it is: "[[" opens the first, "],[" the next.
to_coco() { # to_coco FIRST_IMAGE
    awk -v image=$(($1 - 2)) 'BEGIN { RS = "}" }
        /"detections"/ { found = 1; sub(/.*"detections":/, "") }
        found && /"bbox"/ {
            before = $0
            sub(/\{.*/, "", before)
            image += gsub(/\[/, "", before)
            sub(/^[^{]*\{/, "")
            sub(/"category"/, "\"category_id\"")
            sub(/"label":"[^"]*",/, "")
            printf "%s{\"image_id\":%d,%s}", comma, image, $0
            comma = ","
        }' "$work/answer"
}

"$scenes" "$data/optdigits.tes" 320 32 1 "$work/test"
first=0
for body in "$work"/test-*.body; do
    header=$(<"${body%.body}.length")
    # The same tensor without its targets, and with parameters.
    head -c "$header" "$body" | sed 's/,"targets".*/,"parameters":{"conf":0.001,"iou":0.6,"max_det":100}}/' >"$work/ask.json"
    wc -c <"$work/ask.json" | tr -d ' \n' >"$work/ask.length"
    { cat "$work/ask.json" && tail -c +$((header + 1)) "$body"; } >"$work/ask.body"
    send infer "$work/ask.body"
    to_coco "$first" >>"$work/found"
    echo >>"$work/found"
    first=$((first + 32))
done
{
    printf '{"ground_truth":%s,"detections":[' "$(<"$work/test.json")"
    grep . "$work/found" | paste -sd,
    printf ']}'
} >"$work/evaluate.json"
ask POST /v2/detection/evaluate -H 'Content-Type: application/json' --data-binary "@$work/evaluate.json"
stat() { sed -nE 's/.*"'"$1"'":([0-9.]+).*/\1/p' "$work/answer"; }
map=$(stat AP) map50=$(stat AP50) map75=$(stat AP75)
echo "On $first scenes that it has never seen: mAP50 $map50, mAP75 $map75, mAP50-95 $map."

# ---- 4. a picture --------------------------------------------------------------------------------

ask POST /v2/models/scenes/infer -H 'Content-Type: image/png' -H 'Accept: image/png' \
    --data-binary "@$work/test.png"
mv "$work/answer" "$work/boxes.png"
echo "A scene with the boxes that it finds: $work/boxes.png"
rm -f "$work"/train[01]-* "$work"/test-*
stop || true
awk -v m="$map50" 'BEGIN { exit !(m > 0.90) }' || { echo "mAP50 is not over 0.90" >&2 && exit 1; }

#!/usr/bin/env bash
# Trains yolo_tiny on BCCD (blood cells: 364 photographs, 3 classes) from scratch, through HTTP, with
# augmentation, as a client would: JPEG files and boxes go in, the daemon does the rest.
#
#   tests/bench/bccd.sh [RESULTS]
#
# The split is the data set's own. All choices are made on val: every BCCD_EVAL steps it is
# evaluated, and the state that was best there is kept as a version. At the end that version is
# restored and evaluated on test, once. RESULTS (build/bccd/results) gets curve.csv, log.txt and
# result.json.
#
#   BCCD_DATA=../shared/data/bccd  images/*.jpg, train.json, val.json, test.json (COCO's form)
#   BCCD_STEPS=3600 BCCD_BATCH=16 BCCD_SIZE=320 BCCD_EVAL=200 BCCD_SEED=1 BCCD_LR=0.002
#   BCCD_MINUTES=58                stop there, whatever the step
#   BCCD_TEST=no                   while choosing: test stays unseen
set -eu
cd "$(dirname "$0")/../.."

build=${BUILD:-build}
data=${BCCD_DATA:-../shared/data/bccd}
steps=${BCCD_STEPS:-3600} batch=${BCCD_BATCH:-16} size=${BCCD_SIZE:-320}
every=${BCCD_EVAL:-200} seed=${BCCD_SEED:-1} lr=${BCCD_LR:-0.002} minutes=${BCCD_MINUTES:-58}
work=$build/bccd
results=${1:-$work/results}
[ -f "$data/train.json" ] || { echo "$data has no train.json; BCCD_DATA says where it is" >&2 && exit 2; }
rm -rf "$work" && mkdir -p "$work/file" "$work/boxes" "$results"

. tests/support/daemon.sh

# number NAME: the first number of that name in the answer.
number() { sed -nE 's/.*"'"$1"'":(-?[0-9.eE+-]+).*/\1/p' "$work/answer" | head -n 1; }

say() { echo "$*" | tee -a "$results/log.txt"; }
: >"$results/log.txt"
echo step,seconds,loss,box_loss,cls_loss,dfl_loss,lr,val_mAP50,val_mAP50-95 >"$results/curve.csv"

# ---- the data set: one file of base64 and one of boxes for each image ----------------------------

# split NAME: $work/NAME has the files of the split, $work/boxes the lists of their boxes.
split() {
    awk -v list="$work/$1" -v folder="$work/boxes" '
        BEGIN { RS = "}" }
        function value(name, text) {
            if (!match($0, "\"" name "\":(\"[^\"]*\"|\\[[^]]*\\]|[^,]*)"))
                return ""
            text = substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
            gsub(/"/, "", text)
            return text
        }
        /"file_name"/ { file[value("id")] = value("file_name"); order[++n] = value("id") }
        /"bbox"/ { k = ++boxes[value("image_id")]
                   box[value("image_id"), k] = value("bbox"); category[value("image_id"), k] = value("category_id") }
        /"name"/ && !/"file_name"/ { label[value("id")] = value("name") }
        END {
            for (i = 1; i <= n; i++) {
                id = order[i]
                out = folder "/" file[id]
                printf "[" > out
                for (k = 1; k <= boxes[id]; k++)
                    printf "%s{\"category\":\"%s\",\"bbox\":%s}", (k > 1 ? "," : ""), label[category[id, k]], box[id, k] > out
                printf "]" > out
                close(out)
                print file[id] > list
            }
        }' "$data/$1.json"
    while read -r name; do
        base64 -w0 "$data/images/$name" >"$work/file/$name"
    done <"$work/$1"
}

# body NAME...: a batch of these images and their boxes, as JSON.
body() {
    local name comma=
    printf '{"inputs":[{"name":"image","datatype":"BYTES","shape":[%d],"data":[' $#
    for name; do
        printf '%s"' "$comma" && cat "$work/file/$name" && printf '"'
        comma=,
    done
    comma=
    printf ']}],"targets":[{"name":"boxes","boxes":['
    for name; do
        printf '%s' "$comma" && cat "$work/boxes/$name"
        comma=,
    done
    printf ']}]}'
}

for part in train val test; do split "$part"; done
say "BCCD: $(wc -l <"$work/train") images to train, $(wc -l <"$work/val") val, $(wc -l <"$work/test") test"

# ---- the model -----------------------------------------------------------------------------------

ask PUT /v2/models/bccd --data-binary '{
    "template": {"name": "yolo_tiny", "num_classes": 3, "image_size": '"$size"'},
    "preprocess": "yolo",
    "targets": [{"name": "boxes", "shape": [-1, 200, 5]}],
    "augment": {"hsv_h": 0.015, "hsv_s": 0.5, "hsv_v": 0.3, "translate": 0.1, "scale": 0.4,
                "fliplr": 0.5, "flipud": 0.5, "mosaic": 0.5},
    "optimizer": {"op": "adamw", "lr": '"$lr"', "weight_decay": 0.01},
    "schedule": {"op": "cosine", "warmup_steps": 100, "total_steps": '"$steps"'},
    "seed": '"$seed"', "labels": ["RBC", "WBC", "Platelets"]}'
say "yolo_tiny at $size x $size, $(number parameter_count) parameters; $steps steps of $batch, adamw lr $lr"

# evaluate SPLIT: sets map50 and map; the whole answer is in $work/answer.
evaluate() {
    local id names
    ask POST /v2/models/bccd/evaluations --data-binary '{"parameters":{"conf":0.001,"iou":0.6,"max_det":100}}'
    id=$(number evaluation)
    while mapfile -t -n 16 names && [ ${#names[@]} -gt 0 ]; do
        body "${names[@]}" >"$work/body"
        ask POST "/v2/models/bccd/evaluations/$id" --data-binary "@$work/body"
    done <"$work/$1"
    ask POST "/v2/models/bccd/evaluations/$id/finish"
    map50=$(sed -E 's/.*"metrics":\{[^}]*"mAP50":([0-9.eE+-]+).*/\1/' "$work/answer")
    map=$(sed -E 's/.*"metrics":\{[^}]*"mAP50-95":([0-9.eE+-]+).*/\1/' "$work/answer")
}

# ---- training ------------------------------------------------------------------------------------

# The images in a new order again and again, a batch a line.
batches() {
    local epoch=0
    while :; do
        epoch=$((epoch + 1))
        awk -v seed="$((seed * 100000 + epoch))" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' "$work/train" |
            sort -n | cut -f2
    done | xargs -n "$batch"
}

began=$SECONDS step=0 best=0 version=
mkfifo "$work/batches"
batches >"$work/batches" 2>/dev/null &
feeder=$!
exec 4<"$work/batches"
while [ "$step" -lt "$steps" ] && [ $((SECONDS - began)) -lt $((minutes * 60)) ]; do
    read -r -a names <&4
    body "${names[@]}" >"$work/body"
    ask POST /v2/models/bccd/train_step --data-binary "@$work/body"
    step=$((step + 1))
    line="$step,$((SECONDS - began)),$(number loss),$(number box_loss),$(number cls_loss),$(number dfl_loss),$(number lr)"
    if [ $((step % every)) -eq 0 ] || [ "$step" -eq "$steps" ]; then
        evaluate val
        line="$line,$map50,$map"
        mark=
        if awk -v a="$map50" -v b="$best" 'BEGIN { exit !(a > b) }'; then
            ask POST /v2/models/bccd/versions --data-binary '{"note": "best on val"}'
            old=$version version=$(number version) best=$map50 mark=' (best)'
            [ -z "$old" ] || ask DELETE "/v2/models/bccd/versions/$old"
        fi
        say "step $step, $((SECONDS - began)) s: val mAP50 $map50, mAP50-95 $map$mark"
    else
        line="$line,,"
    fi
    echo "$line" >>"$results/curve.csv"
done
exec 4<&-
kill "$feeder" 2>/dev/null || true

# ---- test, once ----------------------------------------------------------------------------------

[ "$version" ] || { say "no version was saved: train for longer" && exit 1; }
ask POST "/v2/models/bccd/versions/$version/restore"
at=$(number step)
say "trained for $((SECONDS - began)) s; the state of step $at was best on val (mAP50 $best)"
[ "${BCCD_TEST:-yes}" = yes ] || exit 0
evaluate test
cp "$work/answer" "$results/result.json"
say "test: mAP50 $map50, mAP50-95 $map"
stop || true
awk -v m="$map50" 'BEGIN { exit !(m > 0.80) }'

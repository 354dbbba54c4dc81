#!/usr/bin/env bash
# The real Prometheus reads the daemon: promtool finds nothing to complain of, a query gives the last
# loss, and every query of the Grafana dashboard works and has an answer where it should. TAP on
# stdout; skipped by name where prometheus and promtool are not installed (Debian: prometheus).
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
    echo "ok 1 # SKIP prometheus scrapes the daemon: prometheus is not installed"
    echo 1..1
    exit 0
fi
T=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done; wait; rm -rf "$T"' EXIT

n=0
bad=0
# check NAME COMMAND...: what it prints is shown when it fails.
check() {
    local name=$1
    shift
    n=$((n + 1))
    if "$@" >"$T/out" 2>&1; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
        sed 's/^/# /' "$T/out"
        bad=1
    fi
}
# until_done SECONDS COMMAND...: tries it until it works.
until_done() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

"$BUILD/backpropd" --listen 127.0.0.1:0 --data "$T/data" --port-file "$T/port" 2>"$T/log" &
pids+=($!)
check "the daemon starts" until_done 60 test -s "$T/port"
[ $bad = 0 ] || exit 1
target=$(cat "$T/port")
model=http://$target/v2/models/m
curl -s -X PUT "$model" -d '{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],
  "layers":[{"op":"linear","out_features":2}],"loss":{"op":"cross_entropy"}}' >/dev/null
for _ in 1 2 3; do curl -s "$model/train_step" -d '{"inputs":[[0,1],[1,0]],"targets":[0,1]}' >"$T/step"; done
curl -s "$model/infer" -d '{"inputs":[[0,1]]}' >/dev/null
curl -s "http://$target/nothing" >/dev/null
loss=$(sed -E 's/.*"loss":([0-9.e-]+).*/\1/' "$T/step")

lint() { curl -s "http://$target/metrics" | promtool check metrics; }
check "promtool check metrics" lint
quiet() { [ -z "$(lint 2>&1)" ]; }
check "and has no advice" quiet
check "promtool check config docker/prometheus.yml" promtool check config docker/prometheus.yml

# The file of the container, with our address.
sed -e "s/backpropd:8080/$target/" -e 's/: 5s/: 1s/' docker/prometheus.yml >"$T/prometheus.yml"
prometheus --config.file="$T/prometheus.yml" --storage.tsdb.path="$T/tsdb" \
    --web.listen-address=127.0.0.1:0 >"$T/prometheus.log" 2>&1 &
pids+=($!)
listening() { grep -q '"\?Listening on"\? address=127' "$T/prometheus.log"; }
check "prometheus starts" until_done 60 listening
prometheus=http://$(sed -nE 's/.*Listening on"? address=([0-9.:]+).*/\1/p' "$T/prometheus.log" | head -n 1)

query() { curl -s "$prometheus/api/v1/query" --data-urlencode "query=$1"; }
# The value of the only answer, compared as numbers.
query_is() {
    local value
    value=$(query "$1" | sed -nE 's/.*"value":\[[0-9.]+,"([^"]+)"\].*/\1/p')
    awk -v a="$value" -v b="$2" 'BEGIN { exit !(a != "" && (a - b) ^ 2 <= (1e-6 * b) ^ 2) }'
}
check "it scrapes" until_done 60 query_is 'up{job="backpropd"}' 1
check "a query returns the last loss" until_done 30 query_is 'backpropd_train_loss{model="m"}' "$loss"
check "and counts the steps" query_is 'backpropd_train_steps_total{model="m"}' 3

# Each query of the dashboard is one; nothing that it asks for is a name that the daemon never says.
curl -s "http://$target/metrics" | sed -nE 's/^# TYPE ([a-z0-9_]+) (.*)/\1/p' >"$T/families"
dashboard=docker/grafana/dashboards/backpropd.json
sed -nE 's/^ *"expr": "(.*)",?$/\1/p' "$dashboard" | sed -e 's/\\"/"/g' -e 's/\$__rate_interval/1m/g' \
    -e 's/\$model/.*/g' >"$T/queries"
dashboard_queries() {
    local line name wrong=0
    while IFS= read -r line; do
        query "$line" | grep -q '"status":"success"' || { echo "refused: $line"; wrong=1; }
        for name in $(grep -oE '(backpropd|process)_[a-z0-9_]+' <<<"$line"); do
            grep -qx "${name%_bucket}" "$T/families" || { echo "unknown: $name"; wrong=1; }
        done
    done <"$T/queries"
    [ "$(wc -l <"$T/queries")" -ge 15 ] && return $wrong
}
check "the queries of the dashboard" dashboard_queries
echo "1..$n"
exit $bad

# shellcheck shell=bash
# What the scripts that show or measure the daemon share: its start and end, and a request by curl.
# To be sourced after `work`, a folder that is there, and `build` are set. Leaves `url`; the daemon's
# log is $work/log. It is ended when the script ends, however that happens.

daemon=
stop() {
    trap - EXIT INT TERM
    [ "$daemon" ] && kill -TERM "$daemon" 2>/dev/null
    wait "$daemon"
}
trap 'stop || true' EXIT
trap 'stop; exit 130' INT TERM

# shellcheck disable=SC2154  # the caller's
"$build/backpropd" --listen 127.0.0.1:0 --data "$work/data" --port-file "$work/port" 2>"$work/log" &
daemon=$!
until [ -s "$work/port" ]; do
    kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2 && exit 1; }
    sleep 0.02
done
url=http://$(cat "$work/port")

# ask METHOD PATH [curl's arguments]: leaves the answer in $work/answer; ends the script when it is
# a refusal.
ask() {
    local status method=$1 path=$2
    shift 2
    status=$(curl --silent --show-error --noproxy '*' -X "$method" "$url$path" "$@" \
        -H 'Expect:' -o "$work/answer" -w '%{http_code}')
    case $status in
    2*) ;;
    *) echo "$method $path answers $status: $(head -c 500 "$work/answer")" >&2 && exit 1 ;;
    esac
}

#!/usr/bin/env bash
# The container image, without a registry and without a container engine: buildah builds it on a base
# that debootstrap makes, and runs it. Size, user and settings of the image; without a key it does not
# start; a step is trained through it, it is stopped as an engine would do it, started again on the
# same volume, and has the step. TAP on stdout.
#
# Takes minutes and root, so `make test` names it as skipped; `make test-image` runs it. The base is
# kept in $BUILD/image, what else there is lies in TMPDIR (/var/tmp; 3 GB).
set -u
cd "$(dirname "$0")/.." || exit 2
BUILD=${BUILD:-build}

# Not in $BUILD, which make searches.
T=$(mktemp -d "${TMPDIR:-/var/tmp}/backpropd-image-XXXXXX") || exit 2
trap 'rm -rf "$T"' EXIT

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
        tail -n 40 "$T/out" | sed 's/^/# /'
        bad=1
    fi
}
is() { # is FOUND EXPECTED
    [ "$1" = "$2" ] || { echo "found '$1', expected '$2'"; return 1; }
}

# ---- make image: which tool -------------------------------------------------------------------

# builds_with STATUS WORDS TOOL=STATUS...: tools that say what they are called with; the status is
# that of `TOOL info`.
builds_with() {
    local status=$1 words=$2 tool found
    shift 2
    rm -rf "${T:?}/bin" && mkdir "$T/bin" && ln -s "$(command -v dirname)" "$T/bin/"
    for tool; do
        printf '#!/bin/sh\n[ "$1" != info ] || exit %s\necho "%s $*"\n' "${tool#*=}" "${tool%=*}" >"$T/bin/${tool%=*}"
        chmod +x "$T/bin/${tool%=*}"
    done
    found=$(PATH=$T/bin CONTAINER_TOOL='' /bin/sh docker/build.sh some-tag --no-cache 2>&1)
    is $? "$status" && grep -qF -- "$words" <<<"$found" || { echo "$found"; return 1; }
}
check "make image takes docker" builds_with 0 \
    'docker build -f docker/Dockerfile -t some-tag --no-cache .' docker=0 podman=0 buildah=0
check "or podman where docker has no daemon" builds_with 0 'podman build --format docker' docker=1 podman=0 buildah=0
check "or buildah" builds_with 0 'buildah build --format docker' docker=1 buildah=0
check "or says what is missing" builds_with 1 'apt-get install podman' docker=1

# ---- what the rest needs ------------------------------------------------------------------------

missing() {
    [ "$(id -u)" = 0 ] || printf 'root '
    for tool in buildah debootstrap curl nsenter; do
        command -v $tool >/dev/null || printf '%s ' $tool
    done
}
lacks=$(missing)
if [ -n "$lacks" ] || [ -z "${IMAGE_TEST:-}" ]; then
    n=$((n + 1))
    echo "1..$n"
    [ "${IMAGE_TEST:-}" ] && echo "not ok $n - make test-image needs ${lacks% }" && exit 1
    echo "ok $n # SKIP the container image: make test-image builds and runs it${lacks:+; it needs ${lacks% }}"
    exit $bad
fi

mkdir -p "$BUILD/image"
D=$(cd "$BUILD/image" && pwd)
image=localhost/backpropd-test
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs CONTAINERS_STORAGE_CONF=$T/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/state"\n' "$T" "$T" >"$T/storage.conf"

# The daemon's own process: a descendant of buildah's that is called so.
daemon_below() { # daemon_below PID
    local child
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        [ "$(cat /proc/"$child"/comm)" = backpropd ] && echo "$child" && return
        daemon_below "$child" && return
    done
    return 1
}
pids=()
end() {
    local p
    for p in ${pids[@]+"${pids[@]}"}; do kill $(daemon_below "$p") "$p" 2>/dev/null; done
    wait
    { buildah umount --all; buildah rm --all; buildah rmi --all --force; } >/dev/null 2>&1
    rm -rf "$T"
}
trap end EXIT
trap 'exit 130' INT TERM

# need NAME COMMAND...: nothing after it makes sense without.
need() {
    local before=$bad
    bad=0
    check "$@"
    [ $bad = 0 ] || { echo "1..$n"; exit 1; }
    bad=$before
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

# ---- the base: what debian:bookworm-slim is ---------------------------------------------------

# Documentation and translations are left out of it, also of packages that come later.
slim() { # slim ROOT
    local part excluded=(/usr/share/{doc,doc-base,info,linda,lintian,locale,man} /var/cache/man)
    rm -rf "${1:?}"/var/{cache/apt,lib/apt/lists,log}/* "${1:?}"/var/cache/debconf/*-old
    for part in "${excluded[@]}"; do
        rm -rf "${1:?}$part"/*
        echo "path-exclude $part/*"
    done >"$1/etc/dpkg/dpkg.cfg.d/slim"
}
# The mirror that this machine takes Debian from.
mirror() {
    local found
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1)
    echo "${found:-http://deb.debian.org/debian}"
}
make_base() {
    [ ! -f "$D/base.tar" ] || return 0
    debootstrap --variant=minbase bookworm "$T/base" "$(mirror)" || return
    slim "$T/base"
    tar -C "$T/base" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$D/base.tar.part" . &&
        mv "$D/base.tar.part" "$D/base.tar" && rm -rf "$T/base"
}
import_base() {
    local base
    base=$(buildah from scratch) && buildah add "$base" "$D/base.tar" / &&
        buildah commit --rm "$base" docker.io/library/debian:bookworm-slim
}
need "debootstrap makes a base" make_base
need "buildah takes it" import_base

# ---- the image ----------------------------------------------------------------------------------

CONTAINER_TOOL=buildah need "make image" sh docker/build.sh "$image" --pull-never
container=$(buildah from --pull-never "$image") && root=$(buildah mount "$container")
[ -d "${root:-}" ] || exit 1
setting() { buildah inspect --type image --format "{{.Docker.Config.$1}}" "$image"; }

bytes=$(du -s --apparent-size -B1 "$root" | cut -f 1)
echo "# $((bytes / 1000000)) MB: $(stat -c %s "$root/usr/local/bin/backpropd" | numfmt --to=si)B are the binary"
check "under 150 MB" test "$bytes" -lt 150000000
no_tools() {
    ! chroot "$root" dpkg-query -W -f '${Package}\n' | grep -E '^(gcc|cpp|make|binutils|perl)$|-dev$' &&
        is "$(find "$root"/var/{lib/apt/lists,cache/apt,log} -type f -size +1M)" ''
}
check "nothing in it that only builds need" no_tools
all_found() { chroot "$root" ldd /usr/local/bin/backpropd | tee /dev/stderr | awk '/not found/ { exit 1 } END { exit !NR }'; }
check "all libraries that the binary needs" all_found
check "the user is not root" is "$(setting User)" backpropd
uid=$(awk -F: '$1 == "backpropd" { print $3 }' "$root/etc/passwd")
check "it owns the data and nobody else looks into them" is "$(stat -c '%u %a' "$root/data")" "$uid 700"
check "the volume" is "$(setting Volumes)" 'map[/data:{}]'
check "the port" is "$(setting ExposedPorts)" 'map[8080/tcp:{}]'
check "the entry point" is "$(setting Entrypoint) $(setting Cmd)" '[backpropd] []'
check "the signal to stop" is "$(setting StopSignal)" SIGTERM
mapfile -t health < <(buildah inspect --type image --format \
    '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' "$image" | sed '/^$/d')
check "a health check" is "${health[*]:0:3}" "CMD bash -c"

# ---- running it ---------------------------------------------------------------------------------

# A volume as it is made, with what the image has there.
cp -a "$root/data" "$T/volume"
# A network of its own where that may be had, so that its port is free.
net=()
if unshare --net true 2>/dev/null && command -v ip >/dev/null; then
    unshare --net sleep infinity &
    pids+=($!)
    holder=$!
    apart() { [ "$(readlink /proc/"$holder"/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
    until_done 10 apart
    net=(nsenter -t "$holder" -n)
    "${net[@]}" ip link set lo up
fi
run() { "${net[@]}" buildah run -v "$T/volume:/data" "$container" -- "$@"; }
entry=(backpropd)

refuses() {
    run "${entry[@]}" && return 1
    grep -q 'nobody needs a key' "$T/out"
}
check "without a key it does not start" refuses
run "${entry[@]}" keys add --role admin --name test /data >"$T/key"
check "makes a key" grep -q '^bpd_' "$T/key"
printf 'Authorization: Bearer %s\n' "$(tr -d '\r\n' <"$T/key")" >"$T/header"

start() {
    run "${entry[@]}" 2>"$T/log" &
    runner=$!
    pids+=("$runner")
    until_done 120 healthy || { cat "$T/log" "$T/health"; return 1; }
    daemon=$(daemon_below "$runner") || { echo "no process below $runner"; return 1; }
}
# The health check of the image, as it stands there.
healthy() { run "${health[@]:1}" >"$T/health" 2>&1; }
ask() { "${net[@]}" curl -sS --max-time 30 -H "@$T/header" "$@"; }
url=http://127.0.0.1:8080/v2/models/m
state() { ask "$url?state_sha256=1" | grep -oE '"(step|revision|state_sha256)":[^,}]*'; }
trains() {
    ask -X PUT "$url" -d '{"inputs":[{"name":"x","shape":[-1,2]}],"layers":[{"op":"linear","out_features":2}],
        "loss":{"op":"cross_entropy"}}' &&
        ask "$url/train_step" -d '{"inputs":[[0,1],[1,0]],"targets":[0,1]}' | tee /dev/stderr | grep -q '"step":1'
}
# What an engine does: the image's signal to the first process; the status is the daemon's.
stops() {
    kill -s "$(setting StopSignal | sed s/^SIG//)" "$daemon" && wait "$runner"
}
check "unhealthy before it runs" eval '! healthy'
need "starts and is healthy" start
check "runs as the image's user" is "$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$daemon/status")" "$uid $uid $uid"
tls_variable() { "${net[@]}" buildah run --env BACKPROPD_TLS_CERT=cert.pem "$container" -- "${health[@]:1}"; }
check "where TLS is spoken it looks for a connection only" tls_variable
check "who has no key is refused" is "$("${net[@]}" curl -s -o /dev/null -w '%{http_code}' "$url")" 401
check "trains a step" trains
before=$(state)
check "ends at its signal, with status 0" stops
check "unhealthy when it has ended" eval '! healthy && ! tls_variable'
check "the volume has no damage" run "${entry[@]}" check /data
need "starts again on the same volume" start
check "and has the step, to the last bit" is "$(state)" "$before"
check "which is there" grep -q '"step":1' <<<"$before"
check "ends again" stops
echo "1..$n"
exit $bad

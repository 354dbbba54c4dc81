#!/bin/sh
# Installs the Debian packages that a build needs and that are not there: install.sh build|test
#
# Says nothing and touches nothing when all are there. Where it may not install, it prints the one
# line that does. On systems without apt-get it only checks that pkg-config finds the libraries.
set -eu

# package, or alternatives of which one will do
build_packages='gcc make libc6-dev pkg-config|pkgconf curl libmicrohttpd-dev libjansson-dev
    libopenblas-dev libsqlite3-dev libgnutls28-dev libxxhash-dev'
test_packages='libcurl4-openssl-dev|libcurl4-gnutls-dev|libcurl4-nss-dev libcmocka-dev'
# The same as pkg-config and the shell know them.
build_libraries='libmicrohttpd jansson openblas sqlite3 gnutls'
test_libraries='libcurl cmocka'
tools='make pkg-config curl awk sed'

case "${1:-}" in
build)
    packages=$build_packages
    libraries=$build_libraries
    ;;
test)
    packages="$build_packages $test_packages"
    libraries="$build_libraries $test_libraries"
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The packages of the list that are missing, on one line; of alternatives the first.
missing_packages() {
    for entry in $packages; do
        found=
        for package in $(echo "$entry" | tr '|' ' '); do
            if installed "$package"; then
                found=1
                break
            fi
        done
        [ "$found" ] || printf '%s ' "${entry%%|*}"
    done
}

missing_tools() {
    command -v "${CC:-cc}" >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || printf 'gcc '
    for tool in $tools; do
        command -v "$tool" >/dev/null 2>&1 || printf '%s ' "$tool"
    done
    for library in $libraries; do
        pkg-config --exists "$library" 2>/dev/null || printf '%s ' "$library"
    done
}

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    missing=$(missing_tools)
    [ -z "$missing" ] && exit 0
    echo "This is no Debian or Ubuntu: please install what is missing: $missing" >&2
    exit 1
fi

missing=$(missing_packages)
missing=${missing% }
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    become=
elif sudo -n true 2>/dev/null; then
    become='sudo -n'
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    become=sudo
else
    echo "Packages are missing, and this user may not install them. As root, run:" >&2
    echo "apt-get update && apt-get install -y --no-install-recommends $missing" >&2
    exit 1
fi

echo "Installing $missing" >&2
refused() {
    echo "apt-get failed. When its reason is gone, run:" >&2
    echo "${become:+$become }apt-get update && ${become:+$become }apt-get install -y --no-install-recommends $missing" >&2
    exit 1
}
# A list that cannot be refreshed is no reason to stop: what is known may do.
$become apt-get update -qq >&2 || true
# shellcheck disable=SC2086  # $missing and $become are lists of words
$become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2 || refused

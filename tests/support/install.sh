#!/bin/sh
# Installs the Debian packages that a build needs and that are not there: install.sh build|test|browser
#
# Says nothing and touches nothing when all are there. Where it may not install, it prints the one
# line that does. On systems without apt-get it only checks that pkg-config finds the libraries.
set -eu

# A row a package: its name, or alternatives of which one will do; after '=' the name that pkg-config
# knows its library by.
build_packages='
    gcc
    make
    libc6-dev
    pkg-config|pkgconf
    curl
    libmicrohttpd-dev=libmicrohttpd
    libjansson-dev=jansson
    libopenblas-dev=openblas
    libsqlite3-dev=sqlite3
    libgnutls28-dev=gnutls
    libxxhash-dev=libxxhash
    libpng-dev=libpng
    libjpeg-dev=libjpeg
    zlib1g-dev=zlib
    libjs-chart.js
'
test_packages='
    libcurl4-openssl-dev|libcurl4-gnutls-dev|libcurl4-nss-dev=libcurl
    libcmocka-dev=cmocka
    xz-utils
'
# Node.js from elsewhere than Debian brings npm, and does not go together with Debian's.
browser_packages='
    chromium
    nodejs
'
command -v npm >/dev/null 2>&1 || browser_packages="$browser_packages npm"

case "${1:-}" in
build) rows=$build_packages ;;
browser) rows=$browser_packages ;;
test) rows="$build_packages $test_packages" ;;
*)
    echo "usage: $0 build|test|browser" >&2
    exit 2
    ;;
esac

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The packages of the list that are missing, on one line; of alternatives the first.
missing_packages() {
    for row in $rows; do
        row=${row%%=*}
        found=
        for package in $(echo "$row" | tr '|' ' '); do
            if installed "$package"; then
                found=1
                break
            fi
        done
        [ "$found" ] || printf '%s ' "${row%%|*}"
    done
}

# Where there are no such packages: what the build calls and links.
missing_tools() {
    command -v gcc >/dev/null 2>&1 || command -v "${CC:-cc}" >/dev/null 2>&1 || printf 'gcc '
    for tool in make pkg-config curl awk sed; do
        command -v "$tool" >/dev/null 2>&1 || printf '%s ' "$tool"
    done
    for row in $rows; do
        case $row in
        *=*) pkg-config --exists "${row#*=}" 2>/dev/null || printf '%s ' "${row#*=}" ;;
        esac
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

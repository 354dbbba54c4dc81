#!/bin/sh
# Builds the image with what is there of docker, podman and buildah: docker/build.sh [TAG [ARGUMENT...]]
#
# Arguments go to its `build`. CONTAINER_TOOL says which, where several are. A docker without its
# daemon is not there. The format is Docker's, because OCI's has no HEALTHCHECK.
set -eu
cd "$(dirname "$0")/.."
tag=${1:-backpropd}
[ $# = 0 ] || shift

works() {
    command -v "$1" >/dev/null 2>&1 || return 1
    # Only docker needs somebody else for its work.
    [ "$1" != docker ] || docker info >/dev/null 2>&1
}

for tool in ${CONTAINER_TOOL:-docker podman buildah}; do
    works "$tool" || continue
    echo "building $tag with $tool" >&2
    case $tool in
    docker) exec docker build -f docker/Dockerfile -t "$tag" "$@" . ;;
    *) exec "$tool" build --format docker --ignorefile docker/Dockerfile.dockerignore \
        -f docker/Dockerfile -t "$tag" "$@" . ;;
    esac
done
echo "none of ${CONTAINER_TOOL:-docker, podman and buildah} works here; on Debian: apt-get install podman" >&2
exit 1

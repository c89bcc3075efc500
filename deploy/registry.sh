#!/bin/sh
# Makes sure that the tests find an image registry: deploy/registry.sh
# Uses the docker-registry that is there; otherwise unpacks Debian's package into build/registry.
# It is unpacked and not installed, because the installed package would serve a port of this machine for ever.
set -eu

cd "$(dirname "$0")/.."
folder=build/registry

if command -v docker-registry >/dev/null 2>&1 || [ -x "$folder/usr/bin/docker-registry" ]; then
    exit 0
fi
for tool in apt-get dpkg-deb; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "registry: no $tool; this is not a Debian, install docker-registry with its own tool" >&2
        exit 1
    fi
done

echo "registry: unpacking docker-registry into $folder"
mkdir -p "$folder"
log=$(mktemp)
trap 'rm -f "$log" "$folder"/*.deb' EXIT

fetch() { (cd "$folder" && apt-get -o Acquire::Retries=3 download docker-registry) >"$log" 2>&1 </dev/null; }

# A stale package list is the usual reason not to get it; only root can renew the list.
if ! fetch && ! { apt-get -o DPkg::Lock::Timeout=120 update >"$log" 2>&1 </dev/null && fetch; }; then
    tail -n 20 "$log" >&2
    echo "registry: apt-get could not download docker-registry" >&2
    exit 1
fi
dpkg-deb --extract "$folder"/docker-registry_*.deb "$folder"

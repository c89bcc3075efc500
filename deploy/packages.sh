#!/bin/sh
# Installs Debian packages that are missing: deploy/packages.sh PACKAGE...
# Says what it is about to install, prints nothing when all are there, and fails with what to do otherwise.
set -eu

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

missing=
for package in "$@"; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "packages: missing:$missing; this is not a Debian, install them with its own tool" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "packages: missing:$missing; run as root: apt-get install$missing" >&2
    exit 1
fi

echo "packages: installing with apt:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
options='-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3'

# A stale package list is no reason to stop: the install says whether it was good enough.
# shellcheck disable=SC2086 # the options are words
apt-get $options update >"$log" 2>&1 </dev/null || tail -n 5 "$log" >&2

# shellcheck disable=SC2086
if ! apt-get $options install --yes --no-install-recommends $missing >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "packages: apt-get could not install:$missing" >&2
    exit 1
fi

#!/bin/sh
# Installs Debian packages inside an image: install.sh PACKAGE...
# The .deb files beside this script are used if they were fetched for this base (deploy/image/base.py), so that no
# network is needed; otherwise apt's sources.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
missing=
for package in "$@"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
# Nobody needs a half-made image after a power cut: no sync after every file.
if cmp -s "$here/fetched-for" /etc/berth-base; then
    dpkg --force-unsafe-io --install "$here"/*.deb
    exit 0
fi
apt-get -o Acquire::Retries=3 update
# shellcheck disable=SC2086 # the names are words
apt-get -o Dpkg::Options::=--force-unsafe-io -o Acquire::Retries=3 install --yes --no-install-recommends $missing
rm -rf /var/lib/apt/lists/* /var/cache/apt/*

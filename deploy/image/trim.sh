#!/bin/sh
# Takes away what the agent's image does not need: packages that only install packages or repair disks, documents,
# translations, caches, and this script's own folder.
# Copyright notices stay, and so does the list of installed packages, which scanners read.
set -eu

# All at once, and Perl with them, whatever depends on it: nothing is installed into this file system any more.
unneeded='adduser apt debian-archive-keyring e2fsprogs gpgv libapt-pkg6.0 libext2fs2 libgnutls30 libhogweed6
    libidn2-0 libnettle8 libp11-kit0 libss2 libtasn1-6 libunistring2 libxxhash0 logsave perl perl-base
    perl-modules-5.36 libperl5.36 usrmerge'
present=
for package in $unneeded; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" != installed ] || present="$present $package"
done
# shellcheck disable=SC2086 # the names are words
dpkg --purge --force-depends --force-remove-essential --force-remove-protected --force-unsafe-io $present \
    >/tmp/purged 2>&1 || { cat /tmp/purged >&2; exit 1; }

find /usr/share/doc -mindepth 1 \( -type f -o -type l \) ! -name copyright -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug /usr/share/perl \
    /usr/share/doc-base /usr/share/menu /usr/share/bash-completion /usr/share/polkit-1
# Conversions between character sets: everything here is UTF-8, which the C library knows by itself.
rm -rf /usr/lib/*/gconv
# Python's own tests, editor and installers
for library in /usr/lib/python3*; do
    rm -rf "$library"/test "$library"/idlelib "$library"/turtledemo "$library"/ensurepip "$library"/lib2to3 \
        "$library"/pydoc_data "$library"/config-*
done
# Where the packages came from is the business of the machine that built.
rm -rf /etc/apt /etc/berth-base /var/lib/apt /var/cache/* /var/log/* /var/tmp/* /var/backups/* /root/.cache \
    /tmp/packages /tmp/purged
# For mounts, and for who looks around without them.
mkdir -p /var/lib/ecs/data /var/log/ecs

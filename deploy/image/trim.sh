#!/bin/sh
# Takes away what the agent's image does not need: documents, translations, caches, and this script's own folder.
# Copyright notices stay, and so does the list of installed packages, which scanners read.
set -eu

find /usr/share/doc -mindepth 1 \( -type f -o -type l \) ! -name copyright -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/linda /usr/share/bug \
    /usr/share/doc-base /usr/share/menu /usr/share/pixmaps /usr/share/applications
# Python's own tests, editor and installers
for library in /usr/lib/python3*; do
    rm -rf "$library"/test "$library"/idlelib "$library"/turtledemo "$library"/ensurepip "$library"/lib2to3 \
        "$library"/pydoc_data "$library"/config-*
done
rm -rf /var/cache/* /var/lib/apt/lists/* /var/log/* /var/tmp/* /root/.cache /tmp/packages
mkdir -p /var/lib/ecs/data /var/log/ecs

#!/bin/sh
# Makes the Python environment of the image: environment.sh PLACE FOLDER
# FOLDER holds requirements.txt, and perhaps wheels; with wheels nothing is asked of a package index.
set -eu

place=$1
folder=$2
python3 -m venv "$place"
from=
if ls "$folder"/*.whl >/dev/null 2>&1; then
    from="--no-index --find-links $folder"
fi
# shellcheck disable=SC2086 # the options are words
"$place/bin/pip" install --disable-pip-version-check --root-user-action ignore --no-cache-dir --no-compile \
    --only-binary :all: $from --requirement "$folder/requirements.txt"
# pip has done its work; the agent installs nothing.
"$place/bin/pip" uninstall --disable-pip-version-check --root-user-action ignore --yes --quiet setuptools pip

#!/bin/sh
# Makes the Python environment of the image: environment.sh PLACE FOLDER
# FOLDER holds requirements.txt, and perhaps the wheels that were fetched for it; then no package index is asked.
set -eu

place=$1
folder=$2
python3 -m venv "$place"
from=
digest=$(sha256sum "$folder/requirements.txt" | cut -d ' ' -f 1)
if [ "$digest" = "$(cat "$folder/fetched-for" 2>/dev/null || true)" ]; then
    from="--no-index --find-links $folder"
fi
# Some networks have a certificate authority of their own. It is trusted here only, for this step.
if [ -f "$folder/authorities.pem" ]; then
    export PIP_CERT="$folder/authorities.pem"
fi
# shellcheck disable=SC2086 # the options are words
"$place/bin/pip" install --disable-pip-version-check --root-user-action ignore --no-cache-dir --no-compile \
    --only-binary :all: $from --requirement "$folder/requirements.txt"
# pip has done its work; the agent installs nothing.
"$place/bin/pip" uninstall --disable-pip-version-check --root-user-action ignore --yes --quiet setuptools pip

#!/bin/sh
# Installs berth on this machine, from a source tree: as root, from the tree's top,
#
#   deploy/install.sh                 the program, its plugins, the unit berth.service
#   deploy/install.sh --container     only what berth-container.service needs; the image is built apart
#   deploy/install.sh --uninstall     takes away what was installed; state, logs and settings stay
#
# May be repeated: what is there is brought up to date, and /etc/ecs/ecs.config is made only if there is none.
# DESTDIR=folder installs into that folder, for packages; nothing of the running system is then touched.
# PYTHON=python3.12 chooses the interpreter that the agent runs with; the plugins run with the same one.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
to=${DESTDIR:-}
lib=/usr/lib/berth
units=/usr/lib/systemd/system
python=${PYTHON:-python3}
what=native

say() {
    echo "install: $*"
}

fail() {
    echo "install: $*" >&2
    exit 1
}

# Whether this is about the system that runs now, and systemd runs it.
is_live() {
    [ -z "$to" ] && [ -d /run/systemd/system ]
}

put() { # put MODE FILE PLACE
    install -D -m "$1" "$2" "$to$3"
}

check() {
    [ -n "$to" ] || [ "$(id -u)" -eq 0 ] || fail "run as root, or install into a folder: DESTDIR=folder $0"
    command -v "$python" >/dev/null 2>&1 || fail "there is no $python; install Python 3.11 or newer"
    python=$(command -v "$python")
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is $("$python" -V 2>&1); berth needs Python 3.11 or newer: PYTHON=... $0"
    case $("$python" -c 'import sys; print(sys.prefix != sys.base_prefix)') in
        True) fail "$python belongs to a virtual environment, which may go away; choose the system's: PYTHON=..." ;;
    esac
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make environments; install its venv package (Debian: python3-venv)"
}

# The environment is made anew when the packages, the interpreter or the place have changed.
install_environment() {
    mark="$("$python" -V 2>&1) $python $(sha256sum <"$root/requirements.txt" | cut -d ' ' -f 1)"
    if [ "$mark" = "$(cat "$to$lib/venv/.installed-from" 2>/dev/null || true)" ]; then
        return 0
    fi
    say "the pinned Python packages"
    rm -rf "$to$lib/venv"
    folder=$root/build/image/wheels
    if ! [ -f "$folder/fetched-for" ]; then
        folder=$work
        cp "$root/requirements.txt" "$folder/"
    fi
    "$python" -m venv "$to$lib/venv"
    from=
    digest=$(sha256sum "$root/requirements.txt" | cut -d ' ' -f 1)
    [ "$digest" != "$(cat "$folder/fetched-for" 2>/dev/null || true)" ] || from="--no-index --find-links $folder"
    # shellcheck disable=SC2086 # the options are words
    "$to$lib/venv/bin/python3" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --no-compile --only-binary :all: $from --requirement "$root/requirements.txt"
    "$to$lib/venv/bin/python3" -m pip uninstall --quiet --disable-pip-version-check --root-user-action ignore \
        --yes setuptools pip
    echo "$mark" >"$to$lib/venv/.installed-from"
}

install_program() {
    say "the agent"
    # What an older version had and this one has not would still be found.
    rm -rf "$to$lib"/venv/lib/python3*/site-packages/agent
    packages=$(echo "$to$lib"/venv/lib/python3*/site-packages)
    cp -R "$root/agent" "$packages/agent"
    cp "$root/LICENSE" "$packages/LICENSE"
    find "$packages/agent" -name __pycache__ -prune -exec rm -rf {} +
    # So that no start does it. The modules say where they will be, not where they are built.
    "$to$lib/venv/bin/python3" -m compileall -q -s "$to" "$packages"
    put 644 "$root/deploy/image/start.py" "$lib/start.py"
    printf '#!/bin/sh\nexec %s/venv/bin/python3 -I %s/start.py "$@"\n' "$lib" "$lib" >"$work/berth"
    put 755 "$work/berth" /usr/bin/berth
    say "the CNI plugins"
    (cd "$root" && "$python" -m cni_plugins.build --interpreter "$python" --output "$to$lib/cni") >/dev/null
    say "the images of pause and keeper"
    if [ -f "$root/build/pause/pause-amd64.json" ] || [ -f "$root/build/pause/pause-arm64.json" ]; then
        for file in "$root"/build/pause/*; do
            put 644 "$file" "$lib/pause/$(basename "$file")"
        done
    else
        command -v gcc >/dev/null 2>&1 || fail "there is no build/pause and no gcc to make it; run: make pause"
        (cd "$root" && "$python" -m pause.build --output "$to$lib/pause") >/dev/null
    fi
    put 644 "$root/docs/man/berth.1" /usr/share/man/man1/berth.1
}

install_unit() {
    unit=$1
    put 644 "$root/deploy/$unit" "$units/$unit"
    version=$(systemctl --version 2>/dev/null | sed -n 's/^systemd \([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 254 ]; then
        put 644 "$root/deploy/berth-pauses.conf" "$units/$unit.d/pauses.conf"
    else
        rm -f "$to$units/$unit.d/pauses.conf"
    fi
}

install_settings() {
    if [ -e "$to/etc/ecs/ecs.config" ]; then
        say "/etc/ecs/ecs.config is left as it is"
        return 0
    fi
    cat >"$work/ecs.config" <<'END'
# Settings of berth: NAME=value, one a line; docs/settings.md explains them. Without any, the agent is its own
# control plane on this machine. To join a cluster of Amazon ECS:
#ECS_CLUSTER=my-cluster
END
    put 600 "$work/ecs.config" /etc/ecs/ecs.config
    say "/etc/ecs/ecs.config is made; it sets nothing yet"
}

uninstall() {
    for unit in berth.service berth-container.service; do
        if is_live && [ -e "$units/$unit" ]; then
            systemctl disable --now "$unit" || say "$unit could not be stopped"
        fi
        rm -f "$to$units/$unit"
        rm -rf "$to$units/$unit.d"
    done
    rm -f "$to/usr/bin/berth" "$to/usr/share/man/man1/berth.1"
    rm -rf "$to$lib"
    ! is_live || systemctl daemon-reload
    say "removed. Left: /etc/ecs, /var/lib/berth, /var/lib/ecs, /var/log/ecs, and the tasks that run"
}

case ${1:-} in
    '') ;;
    --container) what=container ;;
    --uninstall) what=nothing ;;
    *) fail "unknown argument $1; expected --container, --uninstall or nothing" ;;
esac
if [ "$what" = nothing ]; then
    [ -n "$to" ] || [ "$(id -u)" -eq 0 ] || fail "run as root, or from a folder: DESTDIR=folder $0 --uninstall"
    uninstall
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
if [ "$what" = native ]; then
    check
    install_environment
    install_program
    unit=berth.service
else
    [ -n "$to" ] || [ "$(id -u)" -eq 0 ] || fail "run as root, or install into a folder: DESTDIR=folder $0"
    put 755 "$root/deploy/berth-container.sh" "$lib/berth-container.sh"
    unit=berth-container.service
fi
install_unit "$unit"
install_settings
if is_live; then
    systemctl daemon-reload
    if systemctl is-active --quiet "$unit"; then
        say "done. The agent that runs is still the old one; tasks do not notice: systemctl restart $unit"
    else
        say "done. Start it: systemctl enable --now $unit"
    fi
else
    say "done, in ${to:-/}"
fi

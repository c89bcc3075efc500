#!/bin/sh
# Makes sure that a Docker daemon answers: deploy/docker.sh
# Uses the one that is there; otherwise installs Docker Engine from the distribution and starts it.
# Running it again changes nothing. Its log, if it starts the daemon itself, is build/dockerd.log.
set -eu

cd "$(dirname "$0")/.."
log=build/dockerd.log
deadline_seconds=60

say() { echo "docker: $*"; }
fail() {
    echo "docker: $*" >&2
    exit 1
}

# Asked over the socket and not by the docker command, which may not be installed yet.
answers() {
    if command -v docker >/dev/null 2>&1; then
        timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    else
        timeout 20 "${PYTHON:-python3}" - "$1" >/dev/null 2>&1 <<'PYTHON'
import socket, sys
with socket.socket(socket.AF_UNIX) as daemon:
    daemon.connect(sys.argv[1])
    daemon.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
    sys.exit(0 if b" 200 " in daemon.recv(4096) else 1)
PYTHON
    fi
}

is_running() {
    pid=$(cat /var/run/docker.pid 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

has_systemd() { [ -d /run/systemd/system ]; }

wait_until_it_answers() {
    end=$(($(date +%s) + deadline_seconds))
    until answers "$socket"; do
        if [ "$(date +%s)" -ge "$end" ] || { [ -n "${daemon:-}" ] && ! [ -d "/proc/$daemon" ]; }; then
            return 1
        fi
        sleep 0.3
    done
}

show_log() {
    if has_systemd; then
        journalctl --unit docker --lines 20 --no-pager >&2 || true
    elif [ -f "$log" ]; then
        tail -n 20 "$log" >&2
    fi
}

install_docker() {
    packages=docker.io
    # Newer distributions have the docker command in a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then
        packages="$packages docker-cli"
    fi
    # Where AppArmor is on, Docker starts no container without its parser.
    if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null || true)" = Y ]; then
        packages="$packages apparmor"
    fi
    if ! has_systemd && ! awk '$3 ~ /^cgroup/ { found = 1 } END { exit !found }' /proc/mounts; then
        packages="$packages cgroupfs-mount"
    fi
    # shellcheck disable=SC2086 # the packages are words
    sh deploy/packages.sh $packages
    # The package may start the daemon by itself. A second one would only fail, so give it a moment to show.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        is_running && break
        sleep 0.3
    done
}

start_docker() {
    if has_systemd; then
        say "starting it with systemd"
        systemctl start docker || true # whether it worked is asked of the daemon itself
        return
    fi
    if command -v cgroupfs-mount >/dev/null 2>&1; then
        cgroupfs-mount || true # harmless if they are mounted
    fi
    say "starting dockerd, its log is $log"
    mkdir -p build
    # Detached from this terminal and from make: it stays when they go.
    setsid dockerd >>"$log" 2>&1 </dev/null &
    daemon=$!
}

case "${DOCKER_HOST:-}" in
    '') socket=/var/run/docker.sock ;;
    unix://*) socket=${DOCKER_HOST#unix://} ;;
    *) socket= ;;
esac

# What the agent and its tests use beside Docker.
sh deploy/packages.sh iproute2 iptables nftables

if answers "$socket"; then
    command -v docker >/dev/null 2>&1 ||
        fail "a daemon answers on $socket, but there is no docker command; install one"
    say "version $(docker version --format '{{.Server.Version}}') answers"
    exit 0
fi

if [ -n "${DOCKER_HOST:-}" ]; then
    fail "nothing answers on DOCKER_HOST=$DOCKER_HOST; start that daemon, or unset DOCKER_HOST"
fi

say "no daemon answers on $socket"
[ "$(id -u)" -eq 0 ] || fail "run this as root, so that Docker can be installed and started"
if ! command -v dockerd >/dev/null 2>&1; then
    say "installing Docker Engine from the distribution"
    install_docker
fi

if is_running && wait_until_it_answers; then
    say "the daemon came up by itself"
else
    start_docker
    if ! wait_until_it_answers; then
        show_log
        fail "the daemon did not come up (waited up to $deadline_seconds s); the end of its log is above"
    fi
fi
say "version $(docker version --format '{{.Server.Version}}') answers"

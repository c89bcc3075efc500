#!/bin/bash
# Runs the agent's image as the main process of a systemd unit: berth-container.sh run | clear
#
# run    starts the container and stays; tells systemd when the agent answers, and again and again that it is well
#        (what `berth healthcheck` calls well: it answers, and does not say that one of its loops is stuck). Ends
#        with the agent's exit code. SIGTERM: docker stop, and the same.
# clear  removes the container, if there is one. Tasks are other containers and are not touched.
#
# Environment: IMAGE, CONTAINER, PRIVILEGES (options of docker run), ENV_FILE, BERTH_INTROSPECTION_ADDRESS.
set -u

IMAGE=${IMAGE:-berth/agent}
CONTAINER=${CONTAINER:-ecs-agent}
PRIVILEGES=${PRIVILEGES---privileged}
ENV_FILE=${ENV_FILE:-/etc/ecs/ecs.config}
ADDRESS=${BERTH_INTROSPECTION_ADDRESS:-127.0.0.1:51678}

GRACE=20      # seconds that the agent has to end
ASKING=10     # seconds that it has to answer
STARTING=1    # seconds between two questions until it has answered for the first time
client=
is_stopping=
last_status=

say() {
    echo "berth-container: $*" >&2
}

# Without systemd's variable nobody wants to be told. A failure is no reason to end the agent.
tell() {
    [ -n "${NOTIFY_SOCKET:-}" ] || return 0
    systemd-notify "$@" || say "systemd could not be told: $*"
}

# The head and body of /health, or nothing.
ask() {
    # shellcheck disable=SC2016 # the inner shell expands them
    timeout "$ASKING" bash -c '
        exec 3<>"/dev/tcp/$0/$1" || exit 1
        printf "GET /health HTTP/1.0\r\nHost: %s:%s\r\n\r\n" "$0" "$1" >&3
        cat <&3
    ' "${ADDRESS%:*}" "${ADDRESS##*:}" 2>/dev/null
}

# Sets `status` to a line for people. Fails unless the agent is well.
is_well() {
    local answer components
    answer=$(ask) || true
    case $answer in
        "HTTP/1."[01]" 200 "* | "HTTP/1."[01]" 503 "*) ;;
        *)
            status="the agent does not answer on $ADDRESS"
            return 1
            ;;
    esac
    components=$(grep -o '"component":"[^"]*"' <<<"$answer" | cut -d '"' -f 4 | paste -s -d , -)
    status="the agent answers${components:+; impaired: $components}"
    case ",$components," in
        *,progress,*) return 1 ;;
    esac
    return 0
}

stop() {
    [ -z "$is_stopping" ] || return 0
    is_stopping=yes
    tell --stopping --status="stopping; tasks go on"
    docker stop --time "$GRACE" "$CONTAINER" >/dev/null || say "docker stop has failed"
}

clear_container() {
    docker rm --force "$CONTAINER" >/dev/null 2>&1
    ! docker inspect --type container "$CONTAINER" >/dev/null 2>&1
}

# Seconds between two questions once it is ready: twice in the time that systemd waits.
pause() {
    local half=$((${WATCHDOG_USEC:-60000000} / 2000000))
    [ "$half" -ge 1 ] || half=1
    [ "$half" -le 30 ] || half=30
    echo "$half"
}

run() {
    local interval=$STARTING is_ready='' environment=() privileges=() code nap
    if ! clear_container; then
        say "an old container $CONTAINER cannot be removed; is Docker well?"
        exit 1
    fi
    mkdir -p /var/lib/ecs /var/log/ecs /run/netns
    [ ! -e "$ENV_FILE" ] || environment=(--env-file "$ENV_FILE")
    read -r -a privileges <<<"$PRIVILEGES"
    trap stop TERM INT
    # systemd's socket is this script's own matter.
    env -u NOTIFY_SOCKET -u WATCHDOG_USEC -u WATCHDOG_PID \
        docker run --name "$CONTAINER" "${privileges[@]}" --net=host --pid=host "${environment[@]}" \
        --log-driver json-file --log-opt max-size=16m --log-opt max-file=4 \
        -v /var/run/docker.sock:/var/run/docker.sock -v /var/lib/ecs:/var/lib/ecs -v /var/log/ecs:/var/log/ecs \
        -v /run/netns:/run/netns:shared -v /sys/fs/cgroup:/sys/fs/cgroup "$IMAGE" &
    client=$!
    while kill -0 "$client" 2>/dev/null; do
        if [ -z "$is_stopping" ]; then
            if is_well; then
                if [ -z "$is_ready" ]; then
                    is_ready=yes
                    interval=$(pause)
                    tell --ready --status="$status"
                fi
                tell WATCHDOG=1
            fi
            [ "$status" = "$last_status" ] || tell --status="$status"
            last_status=$status
        fi
        # Until the pause is over, or docker run has ended, or a signal has come.
        sleep "$interval" &
        nap=$!
        wait -n "$client" "$nap"
        kill "$nap" 2>/dev/null
        wait "$nap" 2>/dev/null # else its end would end the next pause at once
    done
    wait "$client"
    code=$?
    if [ "$code" -eq 0 ] && [ -z "$is_stopping" ] &&
        [ "$(docker inspect --type container --format '{{.State.Running}}' "$CONTAINER" 2>/dev/null)" = true ]; then
        say "docker run has ended, but not the container: Docker was restarted, perhaps"
        code=1
    fi
    [ "$code" -ne 5 ] || say "the agent says that a new start does not help; its log says what to change"
    exit "$code"
}

case ${1:-} in
    run) run ;;
    clear) clear_container || say "the container $CONTAINER is still there" ;;
    *)
        say "usage: berth-container.sh run|clear"
        exit 64
        ;;
esac

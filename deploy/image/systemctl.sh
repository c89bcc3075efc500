#!/bin/sh
# The machine's own systemctl, run where it belongs: the agent asks for it when Docker makes control groups through
# systemd. Needs --pid=host, and CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE, as the agent does.
exec nsenter --target 1 --mount -- systemctl "$@"

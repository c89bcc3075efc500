# The agent's image. Three steps need something from outside (a base, Debian packages, Python packages); each
# takes it from a folder under build/ if it was fetched for it, and from the network otherwise:
#   docker build -t berth/agent .            from the registries
#   make image                               from what deploy/image/build.py has prepared, without any network
# Nothing here names an architecture: the compiler and the wheels are those of the machine that builds.
ARG BASE_IMAGE=debian:12-slim

# What the agent needs at run time: Python, nft, certificates. (nsenter is in every Debian.)
FROM ${BASE_IMAGE} AS base
COPY deploy/image/install.sh buil[d]/image/packages /tmp/packages/
RUN sh /tmp/packages/install.sh ca-certificates nftables python3

# Everything that is made: the environment with the pinned packages, the plugins, pause, the launcher, the agent.
FROM base AS build
RUN sh /tmp/packages/install.sh gcc libc6-dev python3-venv
COPY requirements.txt buil[d]/image/wheels /tmp/wheels/
COPY deploy/image/environment.sh deploy/image/contents.py /tmp/
RUN sh /tmp/environment.sh /usr/lib/berth/venv /tmp/wheels \
    && python3 /tmp/contents.py --prune /usr/lib/berth/venv
WORKDIR /src
COPY deploy/image deploy/image
RUN gcc -std=c11 -Os -s -Wall -Wextra -Werror -o /usr/bin/berth deploy/image/launch.c
COPY pause pause
RUN python3 -m pause.build --output /usr/lib/berth/pause
COPY LICENSE LICENSE
COPY cni_plugins cni_plugins
COPY agent agent
ARG REVISION=unknown
RUN python3 -m cni_plugins.build --interpreter /usr/bin/python3 --revision "${REVISION}" \
        --output /usr/lib/berth/cni \
    && python3 -m deploy.image.contents --install /usr/lib/berth/app

# The file system around it, without what is not needed. It is copied as a whole: what was deleted is in no layer.
FROM base AS files
COPY deploy/image/systemctl.sh deploy/image/trim.sh /tmp/packages/
RUN install -m 755 /tmp/packages/systemctl.sh /usr/local/bin/systemctl && sh /tmp/packages/trim.sh

# The result. What changes most often is copied last: an upgrade fetches that layer only.
FROM scratch
COPY --from=files / /
COPY --from=build /usr/lib/berth/venv /usr/lib/berth/venv
COPY --from=build /usr/bin/berth /usr/bin/berth
COPY --from=build /usr/lib/berth/pause /usr/lib/berth/pause
COPY --from=build /usr/lib/berth/cni /usr/lib/berth/cni
COPY --from=build /usr/lib/berth/app /usr/lib/berth/app
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="berth" \
    org.opencontainers.image.description="A node agent that runs awsvpc tasks on the local Docker Engine" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    BERTH_IN_CONTAINER=true \
    BERTH_PAUSE_PATH=/usr/lib/berth/pause \
    ECS_CNI_PLUGINS_PATH=/usr/lib/berth/cni \
    ECS_DATADIR=/var/lib/ecs/data \
    ECS_LOGFILE=/var/log/ecs/ecs-agent.log
# Docker's API, namespaces, links and rules of the host: nothing of it can be done by another user.
USER 0:0
WORKDIR /
STOPSIGNAL SIGTERM
# `berth healthcheck` gives up after 25 seconds; Docker must not be quicker.
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s --retries=3 CMD ["berth", "healthcheck"]
ENTRYPOINT ["berth"]
CMD ["agent"]

"""Every check that the doctor knows, in the order in which its answers are read."""

from agent.cli.doctor import clocks, firewall, itself, kernel, links, others, reach, runtime, storage
from agent.cli.doctor.findings import Check

DOCKER_LIMIT = 9.0
"""Seconds, for checks that ask Docker: it is asked three things, each with a limit of its own."""

CHECKS = (
    Check("settings", "the agent's settings are valid", itself.settings),
    Check("privileges", "capabilities and mounts that the agent needs are there", itself.privileges),
    Check("agent", "the running agent is well, by its own word", itself.health, 7.0),
    Check("docker", "Docker answers quickly, in a version that is known", runtime.docker, DOCKER_LIMIT),
    Check("live-restore", "containers outlive a restart of Docker", runtime.live_restore, DOCKER_LIMIT),
    Check("cgroups", "tasks can be limited through control groups", runtime.control_groups, DOCKER_LIMIT),
    Check(
        "pause-image", "the image that holds a task's network can be had", runtime.pause_image, DOCKER_LIMIT
    ),
    Check("plugins", "the network plugins are there and answer", itself.plugins, DOCKER_LIMIT),
    Check("kernel", "the kernel is new enough and makes the links of a task", kernel.kernel),
    Check(
        "netfilter", "the kernel takes the agent's rules; no other rules contradict", firewall.netfilter, 9.0
    ),
    Check("sysctls", "network switches of the kernel are safe for tasks", firewall.sysctls),
    Check("network-managers", "no program configures the interfaces of tasks", links.network_managers),
    Check("imds-exposure", "tasks cannot reach the machine's own credentials", links.imds_exposure),
    Check("other-agents", "no other agent, and nothing of one, is here", others.other_agents, DOCKER_LIMIT),
    Check("ports", "the agent's addresses are free or its own", reach.ports),
    Check("endpoints", "the control plane can be reached", reach.endpoints, 9.5),
    Check("time", "the clock is right", clocks.time_skew, 9.0),
    Check("clock-source", "asking for the time is cheap", kernel.clock_source),
    Check("disk", "there is room where the agent and Docker keep their files", storage.disk, DOCKER_LIMIT),
    Check("state", "the records of tasks can be read by this version", storage.state),
    Check("open-files", "the agent may open enough files", kernel.open_files),
    Check("conntrack", "there is room for further connections", kernel.conntrack),
)

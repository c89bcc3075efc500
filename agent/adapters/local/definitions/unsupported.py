"""What this backend does not do, by the names of Amazon ECS. Refused when registered, never ignored."""

from collections.abc import Iterator

from agent.adapters.local.records import Document

LOG_DRIVERS = ("fluentd", "gelf", "journald", "json-file", "none", "splunk", "syslog")
"""Docker's log drivers that need nothing of AWS."""

_TASK = {
    "pidMode": "each container has a process namespace of its own",
    "ipcMode": "each container has an IPC namespace of its own",
    "proxyConfiguration": "App Mesh is not there",
    "inferenceAccelerators": "Elastic Inference is not there",
    "ephemeralStorage": "it exists on Fargate only",
    "enableFaultInjection": "the fault injection endpoints are not there",
    "trustedExecutionConfiguration": "only ordinary containers are run",
    "placementConstraints": "there is one machine, and no expression language to choose it by",
}

_CONTAINER = {
    "links": "containers of an awsvpc task reach each other on 127.0.0.1",
    "restartPolicy": "a container that exits stays stopped",
    "environmentFiles": "files in S3 are not read; use environment",
    "volumesFrom": "use a volume and mountPoints in both containers",
    "secrets": "Parameter Store and Secrets Manager are not asked; use environment",
    "hostname": "the containers of an awsvpc task have the host name of its network interface",
    "disableNetworking": "the containers of an awsvpc task share its network",
    "dnsServers": "the containers of an awsvpc task use the resolver of their subnet",
    "dnsSearchDomains": "the containers of an awsvpc task use the search domain of their subnet",
    "extraHosts": "the containers of an awsvpc task share one hosts file",
    "resourceRequirements": "GPUs and accelerators are not assigned",
    "firelensConfiguration": "FireLens log routers are not there",
    "credentialSpecs": "group managed service accounts are not there",
}

_VOLUME = {
    "dockerVolumeConfiguration": "Docker volume drivers are not used",
    "efsVolumeConfiguration": "EFS is not there",
    "s3filesVolumeConfiguration": "S3 Files is not there",
    "fsxWindowsFileServerVolumeConfiguration": "FSx is not there",
    "configuredAtLaunch": "EBS volumes are not made",
}
_VOLUMES_SUPPORTED = "supported are volumes with only a name (made for the task), and host.sourcePath"

_NO_SECRETS = (
    "a secret opens to the task's execution role only, and this agent has no real credentials of roles; "
    "they come with BERTH_CREDENTIALS_SOURCE=sts"
)

_COMPATIBILITIES = ("EC2", "EXTERNAL", "FARGATE", "MANAGED_INSTANCES")


def refusals(definition: Document, architecture: str, *, has_role_credentials: bool) -> Iterator[str]:
    """One sentence for each thing in a definition that is not supported here.

    ``architecture``: what this machine is, in ECS's words (``X86_64`` or ``ARM64``).
    ``has_role_credentials``: whether roles have credentials that AWS knows.
    """
    mode = definition.get("networkMode")
    if mode != "awsvpc":
        given = f"networkMode {mode!r}" if mode else "networkMode is missing (Amazon ECS would take 'bridge')"
        yield f"{given}: not supported; supported is 'awsvpc'"
    yield from _present("", definition, _TASK)
    yield from _compatibilities(definition.get("requiresCompatibilities", []))
    yield from _platform(definition.get("runtimePlatform", {}), architecture)
    for position, container in enumerate(definition["containerDefinitions"]):
        where = f"containerDefinitions[{position}]."
        yield from _present(where, container, _CONTAINER)
        if not has_role_credentials:
            yield from _present(where, container, {"repositoryCredentials": _NO_SECRETS})
        yield from _logging(f"{where}logConfiguration.", container.get("logConfiguration"))
        yield from _details(where, container)
    for position, volume in enumerate(definition.get("volumes", [])):
        for sentence in _present(f"volumes[{position}].", volume, _VOLUME):
            yield f"{sentence}; {_VOLUMES_SUPPORTED}"


def _present(where: str, given: Document, unsupported: dict[str, str]) -> Iterator[str]:
    for name, why in unsupported.items():
        value = given.get(name)
        # An empty list, false or a disabled policy asks for nothing.
        if value and not (isinstance(value, dict) and value.get("enabled") is False):
            yield f"{where}{name} {_shown(value)}: not supported; {why}"


def _compatibilities(wanted: list[str]) -> Iterator[str]:
    for value in wanted:
        if value not in _COMPATIBILITIES:
            yield f"requiresCompatibilities {value!r}: expected one of {', '.join(_COMPATIBILITIES)}"
    if wanted and "EC2" not in wanted:
        yield f"requiresCompatibilities {_shown(wanted)}: not supported; supported is EC2, also beside others"


def _platform(platform: Document, architecture: str) -> Iterator[str]:
    family = platform.get("operatingSystemFamily", "LINUX")
    if family != "LINUX":
        yield f"runtimePlatform.operatingSystemFamily {family!r}: not supported; supported is 'LINUX'"
    wanted = platform.get("cpuArchitecture", architecture)
    if wanted != architecture:
        yield f"runtimePlatform.cpuArchitecture {wanted!r}: not supported; this machine is {architecture!r}"


def _logging(where: str, logging: Document | None) -> Iterator[str]:
    if logging is None:
        return
    driver = logging["logDriver"]
    if driver not in LOG_DRIVERS:
        reason = {"awslogs": "there is no CloudWatch Logs here", "awsfirelens": "FireLens is not there"}.get(
            driver
        )
        why = f"not supported, {reason}" if reason else "not supported"
        yield f"{where}logDriver {driver!r}: {why}; supported are {', '.join(LOG_DRIVERS)}"
    if logging.get("secretOptions"):
        yield (
            f"{where}secretOptions {_shown(logging['secretOptions'])}: not supported; "
            "Parameter Store and Secrets Manager are not asked; use options"
        )


def _details(where: str, container: Document) -> Iterator[str]:
    if container.get("versionConsistency") == "enabled":
        yield (
            f"{where}versionConsistency 'enabled': not supported; image tags are not pinned to digests, "
            "leave it out or say 'disabled'"
        )
    for position, port in enumerate(container.get("portMappings", [])):
        if port.get("containerPortRange"):
            yield (
                f"{where}portMappings[{position}].containerPortRange {port['containerPortRange']!r}: "
                "not supported; name each containerPort"
            )
    linux = container.get("linuxParameters", {})
    for name in ("maxSwap", "swappiness"):
        if linux.get(name) is not None:
            yield f"{where}linuxParameters.{name} {linux[name]!r}: not supported; swap is left to the machine"


def _shown(value: object) -> str:
    """A value short enough for a sentence; the names inside are enough to find it."""
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(one) for one in value[:3]) + (", ...]" if len(value) > 3 else "]")  # noqa: PLR2004
    return repr(value)

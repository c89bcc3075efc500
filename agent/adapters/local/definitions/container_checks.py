"""Whether one container definition makes sense, apart from its neighbours."""

import re
from collections.abc import Iterator, Sequence

from agent.adapters.local.records import Document

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,1023}")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]*")
_SYSCTL = re.compile(r"(net|fs\.mqueue)\.[A-Za-z0-9_.*/-]+|kernel\.(msgmax|msgmnb|msgmni|sem|shm[a-z_]+)")
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
_LEAST_MEMORY = 6  # Docker 20.10 refuses less
_LAST_PORT = 65535
_PERMISSIONS = ("read", "write", "mknod")

_RANGES = {
    "cpu": (0, 262_144),
    "memory": (_LEAST_MEMORY, 1 << 24),
    "memoryReservation": (_LEAST_MEMORY, 1 << 24),
    "startTimeout": (2, 86_400),
    "stopTimeout": (0, 86_400),
}
_HEALTH_RANGES = {"interval": (5, 300), "timeout": (2, 120), "retries": (1, 10), "startPeriod": (0, 300)}


def container_problems(where: str, container: Document, volumes: set[str | None]) -> Iterator[str]:
    """One sentence for each thing that is wrong. ``where`` ends in a dot, ``volumes`` are names."""
    name, image = container.get("name", ""), container.get("image", "")
    if not _NAME.fullmatch(name):
        yield f"{where}name {name!r}: expected 1 to 255 letters, digits, hyphens and underscores"
    if not _IMAGE.fullmatch(image):
        yield f"{where}image {image!r}: expected an image such as registry.example/name:tag"
    yield from _out_of_range(where, container, _RANGES)
    for position, variable in enumerate(container.get("environment", [])):
        key = variable.get("name", "")
        if not key or "=" in key or "\0" in key + variable.get("value", ""):
            yield f"{where}environment[{position}].name {key!r}: expected a name without '='"
    yield from _health_problems(f"{where}healthCheck.", container.get("healthCheck"))
    yield from _port_problems(where, container.get("portMappings", []))
    yield from _mount_problems(where, container.get("mountPoints", []), volumes)
    yield from _ulimit_problems(where, container.get("ulimits", []))
    yield from _linux_problems(f"{where}linuxParameters.", container.get("linuxParameters", {}))
    for position, control in enumerate(container.get("systemControls", [])):
        key = control.get("namespace", "")
        if not _SYSCTL.fullmatch(key):
            yield (
                f"{where}systemControls[{position}].namespace {key!r}: expected a namespaced setting, "
                "net.*, fs.mqueue.* or kernel.msg*, kernel.sem, kernel.shm*"
            )


def _health_problems(where: str, check: Document | None) -> Iterator[str]:
    if check is None:
        return
    command = check["command"]
    if not command or command[0] not in {"CMD", "CMD-SHELL"}:
        yield f"{where}command {command!r}: expected the first word to be 'CMD' or 'CMD-SHELL'"
    elif len(command) < 2 or (command[0] == "CMD-SHELL" and len(command) != 2):  # noqa: PLR2004 kind and command
        yield f"{where}command {command!r}: expected a program after 'CMD', one line after 'CMD-SHELL'"
    yield from _out_of_range(where, check, _HEALTH_RANGES)


def _port_problems(where: str, ports: Sequence[Document]) -> Iterator[str]:
    for position, port in enumerate(ports):
        field = f"{where}portMappings[{position}]."
        if port.get("containerPortRange"):
            continue  # refused as unsupported
        number = port.get("containerPort")
        if number is None or not 1 <= number <= _LAST_PORT:
            yield f"{field}containerPort {number!r}: expected 1 to {_LAST_PORT}"
        host_port = port.get("hostPort", 0)
        if host_port not in {0, number}:
            yield f"{field}hostPort {host_port}: expected {number}, as containerPort, in networkMode awsvpc"
        if port.get("protocol", "tcp") not in {"tcp", "udp"}:
            yield f"{field}protocol {port['protocol']!r}: expected tcp or udp"
        if port.get("appProtocol", "http") not in {"http", "http2", "grpc"}:
            yield f"{field}appProtocol {port['appProtocol']!r}: expected http, http2 or grpc"


def _mount_problems(where: str, mounts: Sequence[Document], volumes: set[str | None]) -> Iterator[str]:
    paths: set[str] = set()
    for position, mount in enumerate(mounts):
        field = f"{where}mountPoints[{position}]."
        volume, path = mount.get("sourceVolume", ""), mount.get("containerPath", "")
        if volume not in volumes:
            known = ", ".join(sorted(filter(None, volumes))) or "none, volumes is empty"
            yield f"{field}sourceVolume {volume!r}: expected a volume of the task ({known})"
        if not path.startswith("/"):
            yield f"{field}containerPath {path!r}: expected an absolute path"
        if path in paths:
            yield f"{field}containerPath {path!r}: expected every path once"
        paths.add(path)


def _ulimit_problems(where: str, limits: Sequence[Document]) -> Iterator[str]:
    names: set[str] = set()
    for position, limit in enumerate(limits):
        field = f"{where}ulimits[{position}]."
        name, soft, hard = limit["name"], limit["softLimit"], limit["hardLimit"]
        if name not in _ULIMITS:
            yield f"{field}name {name!r}: expected one of {', '.join(_ULIMITS)}"
        if name in names:
            yield f"{field}name {name!r}: expected every name once"
        names.add(name)
        if min(soft, hard) < -1:
            yield f"{field}softLimit {soft}, hardLimit {hard}: expected 0 or more, or -1 for no limit"
        elif hard != -1 and (soft == -1 or soft > hard):
            yield f"{field}softLimit {soft}: expected at most hardLimit {hard}"


def _linux_problems(where: str, linux: Document) -> Iterator[str]:
    for direction in ("add", "drop"):
        for capability in linux.get("capabilities", {}).get(direction, []):
            if not _CAPABILITY.fullmatch(capability):
                yield f"{where}capabilities.{direction} {capability!r}: expected such as NET_ADMIN, or ALL"
    size = linux.get("sharedMemorySize")
    if size is not None and size < 1:
        yield f"{where}sharedMemorySize {size}: expected at least 1 MiB"
    for position, tmpfs in enumerate(linux.get("tmpfs", [])):
        path = tmpfs["containerPath"]
        if not path.startswith("/"):
            yield f"{where}tmpfs[{position}].containerPath {path!r}: expected an absolute path"
        if tmpfs["size"] < 1:
            yield f"{where}tmpfs[{position}].size {tmpfs['size']}: expected at least 1 MiB"
    yield from _device_problems(where, linux.get("devices", []))


def _device_problems(where: str, devices: Sequence[Document]) -> Iterator[str]:
    for position, device in enumerate(devices):
        for field in ("hostPath", "containerPath"):
            path = device.get(field)
            if path is not None and not path.startswith("/"):
                yield f"{where}devices[{position}].{field} {path!r}: expected an absolute path"
        for permission in device.get("permissions", []):
            if permission not in _PERMISSIONS:
                yield f"{where}devices[{position}].permissions {permission!r}: expected read, write or mknod"


def _out_of_range(where: str, given: Document, ranges: dict[str, tuple[int, int]]) -> Iterator[str]:
    for field, (least, most) in ranges.items():
        value = given.get(field)
        if value is not None and not least <= value <= most:
            yield f"{where}{field} {value}: expected {least} to {most}"

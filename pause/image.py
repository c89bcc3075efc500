"""Writes a container image as the archive that ``docker load`` reads, with no Docker and no registry.

Everything here is a pure function from content to bytes. The same content gives the same bytes, and so
the same image id, on every machine: nothing is taken from the clock, the user or the file system. The
id is the SHA-256 of the image's configuration, so it is known before anything is loaded.

The format is the one of ``docker save`` (``manifest.json`` beside one tar per layer): Docker Engine of
every age, Podman and containerd read it, while Docker before version 25 cannot read an OCI layout.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

Architecture = Literal["amd64", "arm64"]
"""A machine as Docker and Go name it."""

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of the image. ``path`` is absolute; it belongs to root."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link. ``target`` is stored as it is and need not exist."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of its own. Parents of files are made without being asked for."""

    path: str
    mode: int = 0o755


Entry = File | Link | Folder


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the image says about how it wants to be run.

    ``environment`` maps names to values, ``ports`` lists TCP ports, ``user`` is ``uid:gid`` or empty for
    root. An empty field is left out of the image.
    """

    architecture: Architecture
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[int] = ()
    user: str = ""
    working_folder: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished archive: ``content`` is what to write to disk, ``image_id`` what Docker will call it."""

    name: str
    architecture: Architecture
    image_id: str
    content: bytes

    @property
    def sha256(self) -> str:
        """The checksum of the archive itself, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def build_image(name: str, config: ImageConfig, entries: Iterable[Entry]) -> Image:
    """Build an image of one layer.

    ``name`` is the full reference with its tag (``repository:tag``). The order of ``entries`` has no effect.

    Raises ``ValueError`` when the name has no tag, or when a path is relative, unclean, or given twice.
    """
    if ":" not in name.rpartition("/")[2]:
        raise ValueError(f"image name {name!r} has no tag; expected repository:tag")
    layer = _layer(entries)
    layer_digest = hashlib.sha256(layer).hexdigest()
    config_document = _json(_config_document(config, layer_digest))
    config_digest = hashlib.sha256(config_document).hexdigest()
    layer_path = f"{layer_digest}/layer.tar"
    manifest = [{"Config": f"{config_digest}.json", "Layers": [layer_path], "RepoTags": [name]}]
    content = _tar(
        [
            Folder(layer_digest),
            File(layer_path, layer),
            File(f"{config_digest}.json", config_document),
            File("manifest.json", _json(manifest)),
        ]
    )
    return Image(name, config.architecture, f"sha256:{config_digest}", content)


def _config_document(config: ImageConfig, layer_digest: str) -> dict[str, object]:
    run: dict[str, object] = {
        "Cmd": list(config.command),
        "Entrypoint": list(config.entrypoint),
        "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
        "ExposedPorts": {f"{port}/tcp": {} for port in config.ports},
        "User": config.user,
        "WorkingDir": config.working_folder,
    }
    return {
        "architecture": config.architecture,
        "config": {key: value for key, value in run.items() if value},
        "created": EPOCH,
        "history": [{"created": EPOCH, "created_by": "berth"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{layer_digest}"], "type": "layers"},
    }


def _layer(entries: Iterable[Entry]) -> bytes:
    placed: dict[str, Entry] = {}
    for entry in entries:
        path = _relative(entry.path)
        if path in placed:
            raise ValueError(f"path {entry.path!r} is given twice")
        placed[path] = entry
    for path in tuple(placed):
        for parent in map(str, PurePosixPath(path).parents[:-1]):
            holder = placed.setdefault(parent, Folder(parent))
            if type(holder) is not Folder:
                raise ValueError(f"path /{parent} is not a folder, but /{path} lies below it")
    return _tar(_at(path, placed[path]) for path in sorted(placed))


def _relative(path: str) -> str:
    clean = PurePosixPath(path)
    if not path.startswith("/") or path == "/" or ".." in clean.parts or str(clean) != path:
        raise ValueError(f"path {path!r} is not an absolute, clean path")
    return path[1:]


def _at(path: str, entry: Entry) -> Entry:
    match entry:
        case File():
            return File(path, entry.content, entry.mode)
        case Link():
            return Link(path, entry.target)
        case Folder():
            return Folder(path, entry.mode)


def _tar(entries: Iterable[Entry]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            # A fresh TarInfo has no owner's name, uid and gid 0 and mtime 0: all that varies is set here.
            header = tarfile.TarInfo(entry.path)
            match entry:
                case File():
                    header.mode = entry.mode
                    header.size = len(entry.content)
                    tar.addfile(header, io.BytesIO(entry.content))
                case Link():
                    header.type = tarfile.SYMTYPE
                    header.mode = 0o777
                    header.linkname = entry.target
                    tar.addfile(header)
                case Folder():
                    header.type = tarfile.DIRTYPE
                    header.mode = entry.mode
                    tar.addfile(header)
    return archive.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

"""The key pair that signs requests to the local API: made once, readable by root only."""

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger()

FILE_NAME = "credentials.json"
_PREFIX = "BERTHLOCAL"


class KeysUnusable(Exception):
    """The file cannot be read or made. The text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An access key and its secret. The secret does not show in ``repr``."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


def load_or_make(data_dir: Path) -> KeyPair:
    """The key pair in ``credentials.json`` of the directory; made with mode 0600 if the file is missing.

    A file that is no key pair is replaced: the API must not stay shut because of it. Raise ``KeysUnusable``.
    """
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            pair = _read(path)
            if pair is not None:
                path.chmod(0o600)
                return pair
        return _make(path)
    except OSError as error:
        raise KeysUnusable(
            f"cannot use {path}: {error}; check the owner and mode of the data directory"
        ) from error


def _read(path: Path) -> KeyPair | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        access_key_id, secret = content["accessKeyId"], content["secretAccessKey"]
        if (
            not isinstance(access_key_id, str)
            or not isinstance(secret, str)
            or not access_key_id
            or not secret
        ):
            raise TypeError("accessKeyId and secretAccessKey: expected two texts")
    except (ValueError, KeyError, TypeError) as problem:
        log.warning("keys.replaced", path=str(path), problem=str(problem))
        return None
    return KeyPair(access_key_id, secret)


def _make(path: Path) -> KeyPair:
    pair = KeyPair(_PREFIX + secrets.token_hex(5).upper(), secrets.token_urlsafe(30))
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    # Opened with its mode, so that it is never readable by others, not even for a moment.
    with os.fdopen(
        os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        json.dump({"accessKeyId": pair.access_key_id, "secretAccessKey": pair.secret_access_key}, file)
    aside.rename(path)
    log.info("keys.made", path=str(path), access_key_id=pair.access_key_id)
    return pair

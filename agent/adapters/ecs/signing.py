"""Signature Version 4 for what goes to Amazon ECS: calls, websocket handshakes, telemetry frames."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Protocol
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import structlog
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from agent.adapters.ecs.keys import Keys
from agent.model.errors import CredentialsUnavailable
from agent.ports.clock import Clock

log = structlog.get_logger()

SERVICE_NAME = "ecs"
TOLERATED_SKEW = timedelta(minutes=4)
"""Below this a clock is right enough: AWS takes signatures that are up to five minutes old."""
_STAMP = "%Y%m%dT%H%M%SZ"
_FRAME_HEADERS = ("Authorization", "Host", "X-Amz-Date", "X-Amz-Security-Token")
_SCHEMES = {"ws": "http", "wss": "https"}
_BELIEVABLE_YEARS = range(2020, 2200)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class KeySource(Protocol):
    """Where keys come from."""

    async def current(self) -> Keys:
        """Keys that are valid now. Raise ``CredentialsUnavailable``."""

    def invalidate(self) -> None:
        """The keys were refused: find new ones at the next request."""


class Signer:
    """Signs with the instance's keys, at the time of AWS: the clock plus a skew learnt from refusals."""

    def __init__(self, keys: KeySource, region: str, clock: Clock) -> None:
        self._keys = keys
        self._region = region
        self._clock = clock
        self._skew = timedelta(0)

    @property
    def skew(self) -> timedelta:
        """What is added to the clock. Positive: this machine's clock is behind."""
        return self._skew

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers to send: those given, all of them signed, with date, token and ``Authorization``.

        Leave out what may change on the way (``User-Agent``, ``Accept-Encoding``) and add it afterwards.
        Raise ``CredentialsUnavailable``.
        """
        added = await self._signed(method, url, headers, body)
        return {**headers, **added}

    async def handshake(self, url: str) -> dict[str, str]:
        """``Authorization``, ``X-Amz-Date``, ``X-Amz-Security-Token`` for a GET that upgrades to a websocket.

        Signed are exactly host, date and token (ecs-protocol 2.1); the first two if there is no token.
        Raise ``CredentialsUnavailable``.
        """
        return await self._signed("GET", url, {}, b"")

    async def frame(self, url: str, payload: bytes) -> bytes:
        """A telemetry frame: signed header lines, an empty line, the payload (ecs-protocol 3.1).

        ``url``: that of the connection. Raise ``CredentialsUnavailable``.
        """
        headers = {**await self._signed("GET", url, {}, payload), "Host": canonical_host(url)}
        lines = "".join(f"{name}: {headers[name]}\r\n" for name in _FRAME_HEADERS if name in headers)
        return f"{lines}\r\n".encode() + payload

    def note_server_time(self, date_header: str | None) -> bool:
        """Learn the skew from the ``Date`` of a refusal that may be about time. Whether it has changed.

        Call it only for such refusals: any other answer may come from a cache. Nothing changes when the
        header is absent or unreadable, or when times differ by no more than ``TOLERATED_SKEW``.
        """
        server_time = _read_date(date_header)
        if server_time is None:
            return False
        now = self._clock.now()
        if abs(server_time - (now + self._skew)) <= TOLERATED_SKEW:
            return False
        skew = server_time - now
        self._skew = skew if abs(skew) > TOLERATED_SKEW else timedelta(0)
        log.warning(
            "clock.skewed", seconds=round(self._skew.total_seconds()), server_time=server_time.isoformat()
        )
        return True

    def forget_keys(self) -> None:
        """The keys were refused as expired or unknown: find new ones before the next request."""
        self._keys.invalidate()

    async def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        keys = await self._keys.current()
        _check_writable(keys)
        stamp = (self._clock.now() + self._skew).astimezone(UTC).strftime(_STAMP)
        added = {"X-Amz-Date": stamp}
        if keys.token:
            added["X-Amz-Security-Token"] = keys.token
        credentials = SimpleNamespace(
            access_key=keys.access_key_id, secret_key=keys.secret_access_key, token=keys.token or None
        )
        signer = SigV4Auth(credentials, SERVICE_NAME, self._region)
        request = AWSRequest(method, canonical_url(url), headers={**headers, **added}, data=body)
        # Not add_auth(): that takes the time of the machine, and writes the token into its debug log.
        request.context["timestamp"] = stamp
        text = signer.string_to_sign(request, signer.canonical_request(request))
        names = signer.signed_headers(signer.headers_to_sign(request))
        added["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, "
            f"Signature={signer.signature(text, request)}"
        )
        return added


def _check_writable(keys: Keys) -> None:
    for name, value in (
        ("access key id", keys.access_key_id),
        ("secret access key", keys.secret_access_key),
        ("session token", keys.token),
    ):
        if not (value.isascii() and value.isprintable()):
            raise CredentialsUnavailable(
                f"the {name} of this instance has a line break or another odd character; "
                "expected printable ASCII"
            )


def canonical_url(url: str) -> str:
    """The URL that is signed: http(s) for ws(s), the query encoded as Signature Version 4 wants it.

    A ``+`` in the query means a space, as the receiver reads it, and is signed as ``%20``.
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    return urlunsplit((_SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, parts.path or "/", query, ""))


def canonical_host(url: str) -> str:
    """The ``Host`` header for a URL: lower case, the port only if it is not the scheme's own."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _DEFAULT_PORTS.get(scheme)) else f"{host}:{parts.port}"


def _read_date(header: str | None) -> datetime | None:
    if not header:
        return None
    try:
        read = parsedate_to_datetime(header)
        read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None  # not a date: nothing to learn
    return read if read.year in _BELIEVABLE_YEARS else None

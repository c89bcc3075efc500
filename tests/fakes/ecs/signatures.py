"""Checks AWS Signature Version 4 from its definition, with hmac and hashlib alone: nobody's signer is asked.

For API requests, websocket handshakes, and the signed frames of the telemetry channel (ecs-protocol 3.1).
"""

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote, unquote

SERVICE = "ecs"
TOLERANCE = timedelta(minutes=5)
ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"
_PARTS = ("Credential", "SignedHeaders", "Signature")
_FRAME_HEADERS = {"authorization", "host", "x-amz-date", "x-amz-security-token"}


class SignatureRefused(Exception):
    """A request is not signed as it should be. ``code`` is the error shape that AWS names."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Credentials that a client may sign with. ``holder`` says whose: ``instance`` or a role's ARN.

    ``expires_at`` None: never.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    holder: str = "instance"
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature says."""

    keys: KeyPair
    signed_headers: tuple[str, ...]
    signed_at: datetime


class Verifier:
    """Accepts signatures of the keys in ``keys`` (by access key id) for one region, within five minutes of now."""

    def __init__(self, keys: Mapping[str, KeyPair], region: str, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._region = region
        self._now = now

    def check(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Signed:
        """Return whose signature it is. ``path`` and ``query`` as sent. Raise ``SignatureRefused``."""
        lowered: dict[str, str] = {}
        for name, value in headers.items():
            lowered[name.lower()] = ",".join(filter(None, (lowered.get(name.lower()), value)))
        credential, signed_names, signature = _authorization(lowered.get("authorization"))
        access_key_id, *scope = credential.split("/")
        keys = self._keys.get(access_key_id)
        if keys is None:
            raise SignatureRefused(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        signed_at = self._check_time(lowered.get("x-amz-date", ""))
        stamp = lowered["x-amz-date"]
        expected_scope = [stamp[:8], self._region, SERVICE, "aws4_request"]
        if scope != expected_scope:
            raise _wrong(f"credential scope {'/'.join(scope)!r}: expected {'/'.join(expected_scope)!r}")
        _check_names(signed_names, lowered)
        _check_token(keys, lowered, signed_names)
        if keys.expires_at is not None and keys.expires_at <= self._now():
            raise SignatureRefused(
                "ExpiredTokenException", "The security token included in the request is expired"
            )
        payload_hash = sha256(body).hexdigest()
        claimed = lowered.get("x-amz-content-sha256", payload_hash)
        if claimed != payload_hash:
            raise _wrong("x-amz-content-sha256 is not the hash of the payload")
        canonical = "\n".join(
            [method, _canonical_path(path), _canonical_query(query),
             *(f"{name}:{' '.join(lowered[name].split())}" for name in signed_names), "",
             ";".join(signed_names), payload_hash]
        )  # fmt: skip
        to_sign = "\n".join([ALGORITHM, stamp, "/".join(scope), sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{keys.secret_access_key}".encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), signature):
            raise _wrong(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )
        return Signed(keys, tuple(signed_names), signed_at)

    def check_frame(self, host: str, path: str, query: str, frame: bytes) -> tuple[Signed, bytes]:
        """Whose frame it is and the JSON in it. Signed as a GET of the connection's URL with the JSON as payload.

        Raise ``SignatureRefused``, also when the frame does not begin with a block of such headers.
        """
        head, separator, payload = frame.partition(b"\r\n\r\n")
        if not separator:
            raise _wrong("frame: expected signed headers, an empty line and then JSON")
        headers: dict[str, str] = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(": ")
            if not colon or name.lower() in headers:
                raise _wrong(f"frame: line {line[:60]!r}: expected 'Name: value', each name once")
            headers[name.lower()] = value
        if not set(headers) <= _FRAME_HEADERS:
            raise _wrong(f"frame: headers {sorted(headers)}: expected {sorted(_FRAME_HEADERS)}")
        if headers.get("host") != host:
            raise _wrong(f"frame: Host {headers.get('host')!r}: expected {host!r}")
        return self.check("GET", path, query, headers, payload), payload

    def _check_time(self, stamp: str) -> datetime:
        try:
            signed_at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        except ValueError as error:
            raise SignatureRefused(
                "IncompleteSignatureException",
                f"X-Amz-Date {stamp[:40]!r}: expected a time such as 20260101T120000Z",
            ) from error
        now = self._now()
        if signed_at < now - TOLERANCE:
            edge = (now - TOLERANCE).strftime(_STAMP)
            raise _wrong(
                f"Signature expired: {stamp} is now earlier than {edge} ({now.strftime(_STAMP)} - 5 min.)"
            )
        if signed_at > now + TOLERANCE:
            edge = (now + TOLERANCE).strftime(_STAMP)
            raise _wrong(
                f"Signature not yet current: {stamp} is still later than {edge} "
                f"({now.strftime(_STAMP)} + 5 min.)"
            )
        return signed_at


def _authorization(header: str | None) -> tuple[str, list[str], str]:
    if not header:
        raise SignatureRefused("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if algorithm != ALGORITHM or tuple(sorted(parts)) != tuple(sorted(_PARTS)):
        raise SignatureRefused(
            "IncompleteSignatureException",
            f"Authorization: expected '{ALGORITHM} Credential=..., SignedHeaders=..., Signature=...'",
        )
    if not re.fullmatch(r"[0-9a-f]{64}", parts["Signature"]):
        raise SignatureRefused("IncompleteSignatureException", "Signature: expected 64 hex digits")
    return parts["Credential"], parts["SignedHeaders"].split(";"), parts["Signature"]


def _check_names(names: list[str], headers: Mapping[str, str]) -> None:
    if names != sorted({name.lower() for name in names}):
        raise _wrong(f"SignedHeaders {names}: expected lower case, sorted, each once")
    absent = [name for name in names if name not in headers]
    if absent:
        raise _wrong(f"SignedHeaders: the request has no header {absent[0]!r}")
    must = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    unsigned = sorted(must - set(names))
    if unsigned:
        raise _wrong(f"SignedHeaders: expected {unsigned} to be among them")


def _check_token(keys: KeyPair, headers: Mapping[str, str], names: list[str]) -> None:
    token = headers.get("x-amz-security-token")
    if keys.token is None:
        if token is not None:
            raise SignatureRefused(
                "UnrecognizedClientException", "a session token came with keys that have none"
            )
        return
    if token is None or not hmac.compare_digest(token.encode(), keys.token.encode()):
        state = "missing" if token is None else "wrong"
        raise SignatureRefused(
            "UnrecognizedClientException",
            f"The security token included in the request is invalid. (session token {state})",
        )
    if "x-amz-security-token" not in names:
        raise _wrong("SignedHeaders: expected 'x-amz-security-token' to be among them")


def _canonical_path(path: str) -> str:
    # As sent it is encoded once; what is signed is encoded twice (all services but S3).
    return quote(path, safe="/-_.~") or "/"


def _canonical_query(query: str) -> str:
    # A plus sign is a space here, and a space is signed as %20: Go's clients send one and sign the other.
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(text: str) -> str:
    return quote(unquote(text.replace("+", " ")), safe="-_.~")


def _wrong(message: str) -> SignatureRefused:
    return SignatureRefused("InvalidSignatureException", message)

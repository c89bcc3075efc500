"""Whether a request was signed with our key (AWS Signature Version 4), recomputed by botocore's signer."""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from agent.adapters.local.errors import InvalidSignature, MissingAuthentication, UnknownAccessKey
from agent.adapters.local.keys import KeyPair

ALLOWED_SKEW = timedelta(minutes=5)
_ALGORITHM = "AWS4-HMAC-SHA256"
_PART = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]+)\s*")
_STAMP = "%Y%m%dT%H%M%SZ"


class Verifier:
    """Knows the one key pair. ``region`` is what clients must sign for."""

    def __init__(self, keys: KeyPair, region: str) -> None:
        self._keys = keys
        self._region = region
        credentials = SimpleNamespace(
            access_key=keys.access_key_id, secret_key=keys.secret_access_key, token=None
        )
        self._signer = SigV4Auth(credentials, "ecs", region)

    def check(self, method: str, url: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Return if the signature is right and fresh.

        Raise ``MissingAuthentication``, ``UnknownAccessKey`` or ``InvalidSignature``.
        """
        authorization = headers.get("Authorization", "")
        # Neither hashes nor comparisons take other letters, and no client signs any.
        if not all(value.isascii() for value in headers.values()):
            raise InvalidSignature("a header has letters beyond ASCII, expected ASCII only")
        if not authorization:
            raise MissingAuthentication("Missing Authentication Token")
        parts = _parts(authorization)
        self._check_scope(parts["Credential"])
        stamp = headers.get("X-Amz-Date", "")
        _check_time(stamp, parts["Credential"], now)
        signed = parts["SignedHeaders"].lower().split(";")
        if "host" not in signed or "x-amz-target" not in signed:
            raise InvalidSignature("SignedHeaders: expected 'host' and 'x-amz-target' to be among them")
        missing = [name for name in signed if name not in headers]
        if missing:
            raise InvalidSignature(f"SignedHeaders: the request has no header {missing[0]!r}")
        claimed_hash = headers.get("X-Amz-Content-SHA256")
        if claimed_hash is not None and claimed_hash != sha256(body).hexdigest():
            raise InvalidSignature("X-Amz-Content-SHA256 is not the hash of the body")
        request = AWSRequest(method, url, headers={name: headers[name] for name in signed}, data=body)
        request.context["timestamp"] = stamp
        text = self._signer.string_to_sign(request, self._signer.canonical_request(request))
        if not hmac.compare_digest(self._signer.signature(text, request), parts["Signature"]):
            raise InvalidSignature(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )

    def _check_scope(self, credential: str) -> None:
        access_key_id, *scope = credential.split("/")
        if not hmac.compare_digest(access_key_id.encode(), self._keys.access_key_id.encode()):
            raise UnknownAccessKey("The security token included in the request is invalid.")
        expected = [self._region, "ecs", "aws4_request"]
        if len(scope) != len(expected) + 1 or scope[1:] != expected:
            raise InvalidSignature(
                f"Credential scope {'/'.join(scope)!r}: expected <date>/{'/'.join(expected)}"
            )


def _parts(authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        raise InvalidSignature(
            f"Authorization: unsupported algorithm {algorithm[:40]!r}, expected {_ALGORITHM}"
        )
    found = [_PART.fullmatch(one) for one in rest.split(",")]
    parts = {one[1]: one[2] for one in found if one is not None}
    if len(found) != len(parts) or len(parts) != 3:  # noqa: PLR2004 the three that the pattern names
        raise InvalidSignature("Authorization: expected Credential=..., SignedHeaders=..., Signature=...")
    return parts


def _check_time(stamp: str, credential: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidSignature(
            f"X-Amz-Date {stamp[:40]!r}: expected a time such as 20260101T120000Z"
        ) from error
    if abs(now - signed_at) > ALLOWED_SKEW:
        word = "expired" if signed_at < now else "not yet current"
        raise InvalidSignature(
            f"Signature {word}: signed at {stamp}, and it is {now.strftime(_STAMP)} here "
            f"(at most {int(ALLOWED_SKEW.total_seconds() // 60)} min. apart)"
        )
    if credential.split("/")[1] != stamp[:8]:
        raise InvalidSignature(f"Credential scope: expected the date {stamp[:8]} of X-Amz-Date")

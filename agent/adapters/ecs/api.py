"""Calls to the Amazon ECS API: JSON over HTTPS, signed, with limits, tried again when that can help."""

import asyncio
import json
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import structlog
from yarl import URL

from agent.adapters.ecs.proxies import ProxyUnusable, proxy_for
from agent.adapters.ecs.signing import Signer
from agent.model.errors import AgentError, BackendUnavailable, CredentialsUnavailable, ReportRejected

log = structlog.get_logger()

TARGET = "AmazonEC2ContainerServiceV20141113"
CONTENT_TYPE = "application/x-amz-json-1.1"
LIMITS = aiohttp.ClientTimeout(total=42, sock_connect=30)
"""One round trip (ecs-protocol 1.1). aiohttp has one limit for dialling together with the TLS handshake."""
LONGEST_ANSWER = 4 * 1024 * 1024
SUBMIT_ATTEMPTS = 6
_LONGEST_TEXT = 1000
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_PASSING = frozenset({"RequestTimeout", "RequestTimeoutException", "ServerException"})
_ABOUT_TIME = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_ABOUT_KEYS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class Api(Protocol):
    """The part of ``EcsApi`` that asking needs."""

    async def call(self, operation: str, body: dict[str, Any], *, attempts: int = 3) -> dict[str, Any]:
        """The answer of an operation. Raise ``ApiRefused`` or ``ApiUnreachable``."""


Pause = Callable[[int], float]
"""Seconds to wait after so many failures (from 1)."""


class ApiRefused(AgentError):
    """Amazon ECS answered with an error. ``code``: its short name; ``status``: that of HTTP."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"Amazon ECS said {code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.status >= 500 or self.code in _THROTTLED or self.code in _PASSING  # noqa: PLR2004 HTTP


class ApiUnreachable(BackendUnavailable):
    """No usable answer: network, TLS, redirect, no keys, or an answer that is not one of the API.

    ``is_passing``: whether the same call may succeed a little later.
    """

    def __init__(self, problem: str, *, is_passing: bool = True) -> None:
        super().__init__(problem)
        self.is_passing = is_passing


@dataclass(frozen=True, slots=True)
class _Answer:
    document: dict[str, Any]
    status: int
    date: str | None
    kind: str


def standard_pause(failures: int) -> float:
    """Exponential with full jitter, as the SDKs' standard mode: up to 1 s, 2 s, 4 s ... 20 s."""
    return random.uniform(0, min(2.0 ** (failures - 1), 20))  # noqa: S311 no secret


def submit_pause(failures: int) -> float:
    """The first delays of ecs-protocol 1.7: 2^n times 30 to 59 ms."""
    return 2.0**failures * random.uniform(0.030, 0.059)  # noqa: S311 no secret


class EcsApi:
    """The API at ``endpoint`` (scheme and host, from ``endpoint.endpoint_url``).

    ``http``: the daemon's session; made with ``trust_env=True`` it honours HTTP(S)_PROXY and NO_PROXY.
    ``tls``: from ``endpoint.tls_context``; without it the session's connector decides. ``pause``: how long
    to wait between attempts.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        signer: Signer,
        http: aiohttp.ClientSession,
        user_agent: str,
        tls: ssl.SSLContext | None = None,
        pause: Pause = standard_pause,
        limits: aiohttp.ClientTimeout = LIMITS,
    ) -> None:
        self._url = f"{endpoint.rstrip('/')}/"
        self._where = f"Amazon ECS in {region} at {endpoint}"
        self._signer = signer
        self._http = http
        # Without what aiohttp takes from the environment by itself: a login in a netrc file would keep the
        # signature from being sent. The connections are the daemon's all the same.
        self._plain = aiohttp.ClientSession(
            connector=http.connector, connector_owner=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        self._user_agent = user_agent
        self._tls = tls
        self._pause = pause
        self._limits = limits

    @property
    def endpoint(self) -> str:
        """Where the API is: scheme and host."""
        return self._url.rstrip("/")

    def present_as(self, user_agent: str) -> None:
        """Present the agent so from now on: more of it is known than at first."""
        self._user_agent = user_agent

    async def call(
        self, operation: str, body: dict[str, Any], *, attempts: int = 3, pause: Pause | None = None
    ) -> dict[str, Any]:
        """The answer of an operation. ``attempts``: how often it is sent in all (ecs-protocol 1.1: 3).

        Throttling, errors of the service (5xx) and broken connections are tried again after ``pause``. Once
        per call a wrong clock is corrected and refused keys are looked up anew, without a pause. Raise
        ``ApiRefused`` or ``ApiUnreachable``, the last one's.
        """
        payload = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        invocation = str(uuid4())
        cures: set[str] = set()
        attempt = 1
        while True:
            problem: ApiRefused | ApiUnreachable
            try:
                answer = await self._send(
                    operation, payload, invocation, f"attempt={attempt}; max={attempts}"
                )
            except ApiUnreachable as error:
                problem, is_cured = error, False
            else:
                if isinstance(answer, dict):
                    return answer
                problem, date = answer
                is_cured = self._cure(problem, date, cures)
            if attempt >= attempts or not (is_cured or problem.is_passing):
                raise problem
            log.debug("call.repeated", operation=operation, attempt=attempt, problem=str(problem))
            await asyncio.sleep(0 if is_cured else (pause or self._pause)(attempt))
            attempt += 1

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        """Send a change of state. Return when it was taken.

        Raise ``ReportRejected`` if it never will be (``InvalidParameterException``), ``BackendUnavailable``
        for everything else. The ECS agent repeats one message inside its client for a day (ecs-protocol
        1.7); here the client gives up after a few seconds, because the caller offers the newest view of the
        task for ever.
        """
        try:
            await self.call(operation, body, attempts=SUBMIT_ATTEMPTS, pause=submit_pause)
        except ApiRefused as refusal:
            if refusal.code == "InvalidParameterException":
                raise ReportRejected(str(refusal)) from refusal
            raise BackendUnavailable(str(refusal)) from refusal

    def _cure(self, refusal: ApiRefused, date: str | None, cures: set[str]) -> bool:
        """Do once what makes the next attempt better. Whether something was done."""
        if refusal.code in _ABOUT_TIME and "clock" not in cures and self._signer.note_server_time(date):
            cures.add("clock")
            return True
        if refusal.code in _ABOUT_KEYS and "keys" not in cures:
            cures.add("keys")
            self._signer.forget_keys()
            return True
        return False

    async def _send(
        self, operation: str, payload: bytes, invocation: str, attempt: str
    ) -> dict[str, Any] | tuple[ApiRefused, str | None]:
        """The answer's document, or a refusal with its ``Date``. Raise ``ApiUnreachable``."""
        headers = {
            "Amz-Sdk-Invocation-Id": invocation,
            "Amz-Sdk-Request": attempt,
            "Content-Length": str(len(payload)),
            "Content-Type": CONTENT_TYPE,
            "X-Amz-Target": f"{TARGET}.{operation}",
        }
        try:
            signed = await self._signer.request("POST", self._url, headers, payload)
        except CredentialsUnavailable as error:
            raise ApiUnreachable(f"cannot sign {operation}: {error}", is_passing=False) from error
        try:
            answer = await self._round_trip(
                {**signed, "User-Agent": self._user_agent, "Accept-Encoding": "gzip"}, payload
            )
        except ProxyUnusable as error:
            raise ApiUnreachable(f"{operation}: {self._where}: {error}", is_passing=False) from error
        except (aiohttp.ClientError, OSError, _Unusable) as error:  # a TimeoutError is an OSError
            problem, is_passing = self._told(error, signed)
            # The cause would print what the server sent, which may be what it was sent.
            raise ApiUnreachable(f"{operation}: {self._where}: {problem}", is_passing=is_passing) from None
        except ValueError as error:
            # Its own text may quote what it stumbled over, and that may be the token.
            raise ApiUnreachable(
                f"{operation}: {self._where}: the request cannot be written ({type(error).__name__}); "
                "expected headers without line breaks",
                is_passing=False,
            ) from None
        if answer.status < 300:  # noqa: PLR2004 HTTP
            return answer.document
        message = _without_secrets(_first(answer.document, "message", "Message", "errorMessage"), signed)
        return ApiRefused(answer.kind, message or f"HTTP {answer.status}", answer.status), answer.date

    async def _round_trip(self, headers: dict[str, str], payload: bytes) -> _Answer:
        proxy, login = proxy_for(URL(self._url)) if self._http.trust_env else (None, "")
        if login and self._url.startswith("http:"):
            headers = {
                **headers,
                "Proxy-Authorization": login,
            }  # no tunnel: the proxy reads it
        async with self._plain.post(
            self._url,
            data=payload,
            headers=headers,
            skip_auto_headers=("Accept",),
            allow_redirects=False,
            timeout=self._limits,
            ssl=True if self._tls is None else self._tls,
            proxy=proxy,
            proxy_headers={"Proxy-Authorization": login} if login else None,
        ) as response:
            if 300 <= response.status < 400:  # noqa: PLR2004 HTTP
                host = _host_of(response.headers.get("Location", ""))
                raise _Unusable(
                    f"a redirect (HTTP {response.status}) to {host}, which is not followed", False
                )
            content = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                content += chunk
                if len(content) > LONGEST_ANSWER:
                    response.close()
                    raise _Unusable(f"an answer of more than {LONGEST_ANSWER} bytes", False)
            document = _document(bytes(content), response)
            return _Answer(document, response.status, response.headers.get("Date"), _kind(document, response))

    def _told(self, error: Exception, sent: dict[str, str]) -> tuple[str, bool]:
        """What happened, and whether it may pass."""
        match error:
            case _Unusable():
                return str(error), error.is_passing
            case aiohttp.ConnectionTimeoutError():
                return f"no connection within {self._limits.sock_connect:g} s", True
            case TimeoutError():
                return f"no answer within {self._limits.total:g} s", True
            case aiohttp.ClientConnectorCertificateError():
                return f"its certificate is not trusted: {error.certificate_error}", False
            case aiohttp.ClientConnectorSSLError():
                return f"TLS failed: {error.os_error}", False
            case aiohttp.ClientConnectorError():
                return f"cannot connect: {error.os_error}", True
            case _:
                return _without_secrets(f"{type(error).__name__}: {error}", sent), True


class _Unusable(Exception):
    def __init__(self, problem: str, is_passing: bool) -> None:
        super().__init__(problem)
        self.is_passing = is_passing


def _document(content: bytes, response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    # Not what it says: a proxy's page may quote the request, with its token.
    kind = response.headers.get("Content-Type", "no content type")[:80]
    problem = f"HTTP {response.status} with {len(content)} bytes of {kind}, expected a JSON object"
    # A body cut short or a proxy's own trouble may pass; a page that says no will say so again.
    raise _Unusable(problem, not 400 <= response.status < 500)  # noqa: PLR2004 HTTP


def _kind(document: dict[str, Any], response: aiohttp.ClientResponse) -> str:
    """The short name of the error: ``ns#Shape`` and ``Shape:http://...`` are both ``Shape``."""
    said = _first(document, "__type", "code", "Code") or response.headers.get("X-Amzn-ErrorType", "")
    return said.rpartition("#")[2].partition(":")[0].strip()[:100] or "UnknownError"


def _first(document: dict[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := document.get(name), str) and value), "")


def _without_secrets(text: str, headers: dict[str, str]) -> str:
    """AWS quotes the canonical request, token and all, when a signature is wrong."""
    for name in ("X-Amz-Security-Token", "Authorization"):
        if headers.get(name):
            text = text.replace(headers[name], f"<{name}>")
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _host_of(location: str) -> str:
    try:
        return (urlsplit(location).hostname or "an unnamed place")[:100]
    except ValueError:
        return "an unreadable place"

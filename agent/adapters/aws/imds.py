"""The instance metadata service of EC2, version 2: who this machine is. Never asked through a proxy.

Every answer may be missing. On a machine without the service the first question costs nothing where the
network says so, at most four seconds where it says nothing, and the others nothing.
"""

import asyncio
import json
import random
import re
from dataclasses import dataclass

import aiohttp
import structlog

from agent.model.errors import PortUnavailable

log = structlog.get_logger()

DEFAULT_ENDPOINT = "http://169.254.169.254"

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

_DOCUMENT = "dynamic/instance-identity/document"
_SIGNATURE = "dynamic/instance-identity/signature"
_TOKEN_TTL = 21_600  # seconds, the longest that is given
_LARGEST = 128 * 1024  # bytes; user data has at most 16 KiB
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_WITHOUT_TOKENS = frozenset({_NOT_FOUND, 405, 501})
_ONLY_VERSION_1 = ""


class MetadataUnavailable(PortUnavailable):
    """The service does not answer, or not with what was asked for.

    ``status``: what it said instead, if it did. ``is_absent``: this machine has none, as far as is known.
    """

    def __init__(self, problem: str, *, status: int | None = None, is_absent: bool = False) -> None:
        super().__init__(problem)
        self.status = status
        self.is_absent = is_absent


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. ``first``: for an answer before there has been any, for each try; ``later``: afterwards.

    ``absence``: how long a service that has never answered is not asked again. ``identity``: how long the
    identity is asked for, with pauses from ``pause`` doubled up to ``longest_pause``, each lengthened by up
    to ``jitter`` of itself (ecs-protocol 1.3).
    """

    first: tuple[float, ...] = (0.75, 1.0, 1.5)
    later: float = 2.0
    absence: float = 60.0
    identity: float = 30.0
    pause: float = 0.1
    longest_pause: float = 5.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class Identity:
    """What the identity document says. None: it does not say that."""

    instance_id: str | None = None
    region: str | None = None
    account: str | None = None
    architecture: str | None = None
    availability_zone: str | None = None


class InstanceMetadata:
    """Asks the metadata service. Its verbs give None where there is no answer; only ``fetch`` raises.

    ``endpoint``: a URL, or None for the usual one. ``is_disabled``: nothing is ever asked
    (``AWS_EC2_METADATA_DISABLED``). It has a session of its own, because one that others use may know
    proxies.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        is_disabled: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self.endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        self.is_disabled = is_disabled
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self._token: str | None = None
        self._token_until = 0.0
        self._has_answered = False
        self._absence: str | None = None
        self._absent_until = 0.0
        self._identity_texts: dict[str, str] = {}
        self._told: dict[str, str] = {}

    async def aclose(self) -> None:
        """Close the connections. What is asked afterwards opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- who this machine is -------------------------------------------------------------------

    async def identity_document(self) -> str | None:
        """The identity document, to the letter. It is asked for several times, at most half a minute."""
        return await self._identity_text(_DOCUMENT)

    async def identity_signature(self) -> str | None:
        """The signature of the identity document, to the letter. Asked for as the document is."""
        return await self._identity_text(_SIGNATURE)

    async def identity(self) -> Identity | None:
        """What the identity document says; None if there is none, or if it is no JSON object."""
        text = await self.identity_document()
        if text is None:
            return None
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            log.warning("metadata.doubted", path=_DOCUMENT, problem="expected a JSON object")
            return None

        def said(name: str) -> str | None:
            value = document.get(name)
            return value if isinstance(value, str) and value else None

        return Identity(
            instance_id=said("instanceId"),
            region=said("region"),
            account=said("accountId"),
            architecture=said("architecture"),
            availability_zone=said("availabilityZone"),
        )

    async def outpost_arn(self) -> str | None:
        """The Outpost that the instance is in."""
        return await self.text("meta-data/outpost-arn")

    async def user_data(self) -> str | None:
        """The user data; None also if it is no text, such as what cloud-init takes compressed.

        Asked for as the identity is: what it chooses cannot be chosen later.
        """
        text = await self._asked_again("user-data")
        return (text or "").strip() or None

    # -- its network ---------------------------------------------------------------------------

    async def mac(self) -> str | None:
        """The MAC address of the primary network interface, in small letters."""
        text = await self.text("meta-data/mac")
        if text is None or MAC.fullmatch(text.lower()):
            return text.lower() if text else None
        log.warning(
            "metadata.doubted", path="meta-data/mac", problem=f"expected a MAC address: {text[:40]!r}"
        )
        return None

    async def vpc_id(self, mac: str) -> str | None:
        """The VPC that the interface with this MAC address is in."""
        return await self.text(f"{_interface(mac)}/vpc-id")

    async def subnet_id(self, mac: str) -> str | None:
        """The subnet that the interface with this MAC address is in."""
        return await self.text(f"{_interface(mac)}/subnet-id")

    # -- asking --------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Forget that no service was found: the next question is asked, with one try.

        It costs the longest of ``Patience.first`` where there is none, and nothing where there is one.
        """
        self._absent_until = 0.0

    async def text(self, path: str) -> str | None:
        """What stands at a path, without space around it; None if nothing does, or nobody answers."""
        try:
            content = await self.fetch(path)
        except MetadataUnavailable as error:
            self._tell(path, error)
            return None
        self._told.pop(path, None)
        text = None if content is None else _decoded(content)
        return text.strip() or None if text is not None else None

    async def fetch(self, path: str) -> bytes | None:
        """What stands at a path below ``latest``; None if nothing does (404).

        One try. Raise ``MetadataUnavailable``.
        """
        if self.is_disabled:
            problem = "the instance metadata service is not asked: AWS_EC2_METADATA_DISABLED is true"
            raise MetadataUnavailable(problem, is_absent=True)
        token = await self._current_token()
        status, content = await self._get(path, token)
        if status == _UNAUTHORIZED:
            # the token has expired, or tokens have just been made compulsory
            if self._token == token:
                self._token = None
            status, content = await self._get(path, await self._current_token())
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise MetadataUnavailable(f"{self.endpoint} answered {status} to {path}", status=status)
        return content

    async def _get(self, path: str, token: str) -> tuple[int, bytes]:
        headers = {"X-aws-ec2-metadata-token": token} if token else {}
        return await self._ask("GET", path, self._patience.later, headers)

    async def _current_token(self) -> str:
        loop = asyncio.get_running_loop()
        async with self._turn:  # whoever comes while it is unknown whether there is a service waits for that
            if self._absence is not None and loop.time() < self._absent_until:
                raise MetadataUnavailable(self._absence, is_absent=True)
            if self._token is not None and loop.time() < self._token_until:
                return self._token
            status, content = await self._ask_for_token()
            if status == _OK and (token := (_decoded(content) or "").strip()):
                self._token = token
            elif status in _WITHOUT_TOKENS:
                # a stand-in of somebody's; a real one that forbids version 2 does not exist
                self._token = _ONLY_VERSION_1
            elif status == _FORBIDDEN:
                raise self._absent(f"{self.endpoint} is turned off for this instance (403)")
            else:
                problem = f"{self.endpoint} gave no token (status {status})"
                raise MetadataUnavailable(problem, status=status)
            # a little earlier than it ends, so that it does not end on its way
            self._token_until = loop.time() + _TOKEN_TTL * 0.9
            return self._token or _ONLY_VERSION_1

    async def _ask_for_token(self) -> tuple[int, bytes]:
        """Ask for a token. Before there was any answer this finds out whether there is a service at all."""
        limits: tuple[float, ...] = (self._patience.later,)
        if not self._has_answered:
            # What was found absent before has had its tries.
            limits = self._patience.first if self._absence is None else (max(self._patience.first),)
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL)}
        tries = 1
        while True:
            try:
                return await self._ask("PUT", "api/token", limits[tries - 1], headers)
            except MetadataUnavailable as error:
                if self._has_answered or error.status is not None:
                    raise
                # Refused, or no route: nobody is there. Anything else may be a service that is still slow.
                if tries == len(limits) or isinstance(error.__cause__, aiohttp.ClientConnectorError):
                    raise self._absent(str(error)) from error
            await asyncio.sleep(self._patience.pause * tries)
            tries += 1

    async def _ask(self, method: str, path: str, limit: float, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(limit),
                self._opened().request(
                    method, f"{self.endpoint}/latest/{path}", headers=headers, allow_redirects=False
                ) as response,
            ):
                content = bytearray()
                async for piece in response.content.iter_any():
                    content += piece
                    if len(content) > _LARGEST:
                        problem = f"{self.endpoint} answered more than {_LARGEST} bytes to {path}"
                        raise MetadataUnavailable(problem, status=response.status)
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
            said = f"no answer within {limit:g} s" if isinstance(error, TimeoutError) else str(error)
            problem = f"{self.endpoint} cannot be asked for {path}: {said}"
            raise MetadataUnavailable(problem) from error
        self._has_answered = True
        self._absence = None
        return response.status, bytes(content)

    def _absent(self, problem: str) -> MetadataUnavailable:
        """Remember that there is no service; the error to raise."""
        if self._absence is None:
            log.info("metadata.missed", reason=problem)
        self._absence = problem
        self._absent_until = asyncio.get_running_loop().time() + self._patience.absence
        return MetadataUnavailable(problem, is_absent=True)

    def _tell(self, path: str, error: MetadataUnavailable) -> None:
        """Log what is new: some paths are asked for every second."""
        if not error.is_absent and self._told.get(path) != str(error):
            self._told[path] = str(error)
            log.warning("metadata.missed", path=path, reason=str(error))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # a proxy would get the token, and tell us about another machine
            self._session = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _identity_text(self, path: str) -> str | None:
        if path not in self._identity_texts:
            text = await self._asked_again(path)
            if text is None:
                return None
            self._identity_texts[path] = text  # it is the same for as long as the instance runs
        return self._identity_texts[path]

    async def _asked_again(self, path: str) -> str | None:
        patience = self._patience
        pause = patience.pause
        end = asyncio.get_running_loop().time() + patience.identity
        while True:
            try:
                content = await self.fetch(path)
            except MetadataUnavailable as error:
                delay = pause * (1 + patience.jitter * random.SystemRandom().random())
                if error.is_absent or asyncio.get_running_loop().time() + delay >= end:
                    self._tell(path, error)
                    return None
                await asyncio.sleep(delay)
                pause = min(pause * 2, patience.longest_pause)
            else:
                return None if content is None else _decoded(content)


def _interface(mac: str) -> str:
    if not MAC.fullmatch(mac.lower()):
        raise ValueError(f"mac {mac!r}: expected a MAC address such as 02:00:00:00:00:01")
    return f"meta-data/network/interfaces/macs/{mac.lower()}"


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None

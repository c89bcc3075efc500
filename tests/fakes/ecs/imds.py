"""``InstanceMetadataStandIn``: EC2's instance metadata on loopback, version 2 only, with every way to fail.

Paths are given without ``/latest/``: ``meta-data/mac``, ``dynamic/instance-identity/document``, ``user-data``.
"""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.fakes.ecs.api import answer_badly
from tests.fakes.ecs.faults import ANY, Fault, Faults
from tests.fakes.ecs.records import Call, Journal
from tests.fakes.ecs.serving import LoopbackServer
from tests.fakes.ecs.tasks import ACCOUNT, REGION

TOKEN_PATH = "api/token"
DOCUMENT = "dynamic/instance-identity/document"
SIGNATURE = "dynamic/instance-identity/signature"
ROLES = "meta-data/iam/security-credentials/"
SPOT_ACTION = "meta-data/spot/instance-action"
MAINTENANCE = "meta-data/events/maintenance/scheduled"
LIFECYCLE = "meta-data/autoscaling/target-lifecycle-state"

_LONGEST_TTL = 21_600
_STAMP = "%Y-%m-%dT%H:%M:%SZ"


class InstanceMetadataStandIn:
    """Answers like 169.254.169.254 does, on a port of loopback. Blocking, and safe from every thread.

    ``faults.plan("meta-data/mac", server_error(), times=2)`` spoils a path, ``ANY`` every path, ``TOKEN_PATH``
    the tokens. ``allows_v1``: requests without a token are answered too.
    """

    def __init__(
        self, *, region: str = REGION, account: str = ACCOUNT, mac: str = "0a:77:00:00:00:01"
    ) -> None:
        self.region, self.account, self.mac = region, account, mac
        self.instance_id = "i-0fk00000000000001"
        self.vpc_id, self.subnet_id = "vpc-0fk00000000000001", "subnet-0fk00000000000001"
        self.zone = f"{region}a"
        self.allows_v1 = False
        self.faults = Faults()
        self.journal = Journal()
        self._tokens: dict[str, float] = {}
        self._server = LoopbackServer("imds-stand-in", self._answer)
        self._paths: dict[str, bytes] = {}
        self._fill()

    def start(self) -> Self:
        """Listen on a free port of loopback."""
        self._server.start()
        return self

    def stop(self) -> None:
        """End everything."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint, without a slash at the end."""
        return self._server.url

    @property
    def server(self) -> LoopbackServer:
        """The listener: ``refuse_connections`` makes the service disappear."""
        return self._server

    def environment(self) -> dict[str, str]:
        """What AWS's SDKs read to find another metadata service."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def calls(self, path: str | None = None) -> list[Call]:
        """The requests of that path, or all; ``body`` is the method."""
        return self.journal.calls(path)

    # -- content -------------------------------------------------------------------------------

    def set(self, path: str, value: str | bytes | Mapping[str, object] | list[object]) -> None:
        """Put something there: text, bytes, or a document that becomes JSON."""
        if isinstance(value, str):
            value = value.encode()
        elif not isinstance(value, bytes):
            value = json.dumps(value).encode()
        with self.journal.lock:
            self._paths[path] = value

    def remove(self, path: str) -> None:
        """Nothing is there from now on (404), nor below it."""
        with self.journal.lock:
            self._paths = {
                each: value
                for each, value in self._paths.items()
                if each != path and not each.startswith(f"{path.rstrip('/')}/")
            }

    def set_role(self, name: str, *, expires_in_s: float = 21_600.0, code: str = "Success") -> dict[str, str]:
        """Attach an instance role with new keys; the credentials. Any role before goes."""
        secret, now = uuid.uuid4().hex, datetime.now(UTC)
        document = {
            "Code": code,
            "LastUpdated": now.strftime(_STAMP),
            "Type": "AWS-HMAC",
            "AccessKeyId": f"EXAMPLEKEYID{secret[:12].upper()}",
            "SecretAccessKey": f"fake-secret-{secret}",
            "Token": f"fake-token-{secret * 4}",
            "Expiration": (now + timedelta(seconds=expires_in_s)).strftime(_STAMP),
        }
        self.remove(ROLES)
        self.set(f"{ROLES}{name}", dict(document))
        profile = f"arn:aws:iam::{self.account}:instance-profile/{name}"
        self.set("meta-data/iam/info", {"Code": code, "InstanceProfileArn": profile})
        return document

    def interrupt(self, action: str = "terminate", *, in_s: float = 120.0) -> None:
        """Announce a spot interruption."""
        at = datetime.now(UTC) + timedelta(seconds=in_s)
        self.set(SPOT_ACTION, {"action": action, "time": at.strftime(_STAMP)})

    def schedule_maintenance(self, code: str = "system-reboot", *, in_s: float = 3600.0) -> None:
        """Announce a maintenance event."""
        begins = datetime.now(UTC) + timedelta(seconds=in_s)
        event = {
            "NotBefore": begins.strftime("%d %b %Y %H:%M:%S GMT"),
            "NotAfter": (begins + timedelta(hours=2)).strftime("%d %b %Y %H:%M:%S GMT"),
            "Code": code,
            "Description": f"scheduled {code}",
            "EventId": "instance-event-0fk0000000000001",
            "State": "active",
        }
        self.set(MAINTENANCE, [event])

    def identity_document(self) -> dict[str, object]:
        """The instance identity document, as far as agents read it."""
        return {
            "accountId": self.account,
            "architecture": "x86_64",
            "availabilityZone": self.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": "ami-0fk00000000000001",
            "instanceId": self.instance_id,
            "instanceType": "m5.large",
            "kernelId": None,
            "pendingTime": "2026-01-01T00:00:00Z",
            "privateIp": "10.77.0.10",
            "ramdiskId": None,
            "region": self.region,
            "version": "2017-09-30",
        }

    def expire_tokens(self) -> None:
        """Every token given so far is refused (401)."""
        with self.journal.lock:
            self._tokens.clear()

    def _fill(self) -> None:
        interface = f"meta-data/network/interfaces/macs/{self.mac}"
        self.set(DOCUMENT, json.dumps(self.identity_document(), indent=2))
        self.set(SIGNATURE, base64.b64encode(b"fake-signature" * 8))
        for path, value in {
            "meta-data/ami-id": "ami-0fk00000000000001",
            "meta-data/hostname": f"ip-10-77-0-10.{self.region}.compute.internal",
            "meta-data/instance-id": self.instance_id,
            "meta-data/instance-type": "m5.large",
            "meta-data/local-ipv4": "10.77.0.10",
            "meta-data/mac": self.mac,
            f"{interface}/vpc-id": self.vpc_id,
            f"{interface}/subnet-id": self.subnet_id,
            f"{interface}/subnet-ipv4-cidr-block": "10.77.0.0/16",
            f"{interface}/local-ipv4s": "10.77.0.10",
            "meta-data/placement/availability-zone": self.zone,
            "meta-data/placement/availability-zone-id": "usw2-az1",
            "meta-data/placement/region": self.region,
            MAINTENANCE: "[]",
        }.items():
            self.set(path, value)
        self.set_role("fkInstanceRole")

    # -- on the server's thread ----------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix("/latest/")
        call = self.journal.call(path, request.method, request.headers)
        fault = self.faults.take(path, ANY)
        if fault is not None:
            call.fault = fault.name
            await asyncio.sleep(fault.delay_s)
        if fault is not None and not fault.only_delays:
            call.status = fault.status
            return await self._badly(request, fault)
        if path == TOKEN_PATH:
            response = self._token(request)
        elif request.method != "GET":
            response = web.Response(status=405)
        elif not self._has_token(request):
            response = web.Response(status=401)
        else:
            response = self._content(path)
        call.status = response.status
        self.journal.touch()
        return response

    async def _badly(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        if fault.code is not None:
            return web.Response(status=fault.status or 500, text=fault.message)
        return await answer_badly(request, fault, datetime.now(UTC))

    def _token(self, request: web.BaseRequest) -> web.Response:
        if request.method != "PUT":
            return web.Response(status=405)
        if "X-Forwarded-For" in request.headers:
            return web.Response(status=403)
        ttl = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= _LONGEST_TTL:
            return web.Response(status=400)
        token = f"fake-imds-token-{uuid.uuid4().hex}"
        with self.journal.lock:
            self._tokens[token] = time.monotonic() + int(ttl)
        return web.Response(text=token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})

    def _has_token(self, request: web.BaseRequest) -> bool:
        token = request.headers.get("X-aws-ec2-metadata-token")
        if token is None:
            return self.allows_v1
        with self.journal.lock:
            return self._tokens.get(token, 0.0) > time.monotonic()

    def _content(self, path: str) -> web.Response:
        with self.journal.lock:
            # The real one does not mind a slash at the end either.
            found = self._paths.get(path, self._paths.get(path.rstrip("/")))
            if found is not None:
                return web.Response(body=found, content_type="text/plain")
            below = f"{path.rstrip('/')}/"
            names = {
                head + slash
                for each in self._paths
                if each.startswith(below)
                for head, slash, _ in [each.removeprefix(below).partition("/")]
            }
        if names:
            return web.Response(text="\n".join(sorted(names)))
        return web.Response(status=404, text="404 - Not Found")

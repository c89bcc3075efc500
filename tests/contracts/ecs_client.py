"""A well-behaved agent's side of the wire for tests, made of aiohttp and botocore, with nothing of the agent in it."""

import asyncio
import json
import uuid
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from yarl import URL

from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.signatures import KeyPair

QUICK = 5.0
RESOURCES = [
    {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
    {"name": "MEMORY", "type": "INTEGER", "integerValue": 2000},
    {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
    {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
]


class Client:
    """A well-behaved agent's calls, with nothing of the agent in it."""

    def __init__(self, control: ControlPlane, keys: KeyPair | None = None) -> None:
        self.control = control
        self.keys = keys or control.instance_keys
        self.arn = ""
        self._boto: Any = None

    @property
    def boto(self) -> Any:
        if self._boto is None:
            self._boto = boto3.session.Session().client(
                "ecs",
                endpoint_url=self.control.url,
                region_name="us-west-2",
                aws_access_key_id=self.keys.access_key_id,
                aws_secret_access_key=self.keys.secret_access_key,
                aws_session_token=self.keys.token,
                config=Config(
                    retries={"total_max_attempts": 1}, read_timeout=0.5, parameter_validation=False
                ),
            )
        return self._boto

    def close(self) -> None:
        if self._boto is not None:
            self._boto.close()

    def signature(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        credentials = SimpleNamespace(
            access_key=self.keys.access_key_id, secret_key=self.keys.secret_access_key, token=self.keys.token
        )
        request = AWSRequest(method, url, headers=headers, data=body)
        SigV4Auth(credentials, "ecs", "us-west-2").add_auth(request)
        return dict(request.headers)

    async def call(self, operation: str, document: Any, **altered: str) -> tuple[int, Any, dict[str, str]]:
        """What boto3's model does not know: fields of agents only. ``altered`` headers after signing."""
        body = json.dumps(document).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}",
            "User-Agent": "a test",
        }
        signed = {**self.signature("POST", f"{self.control.url}/", body, headers), **altered}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.control.url}/", data=body, headers=signed, allow_redirects=False) as answer,
        ):
            return answer.status, json.loads(await answer.read()), dict(answer.headers)

    def registration(self, **more: Any) -> dict[str, Any]:
        return {
            "cluster": self.control.names.cluster,
            "instanceIdentityDocument": "",
            "instanceIdentityDocumentSignature": "",
            "totalResources": RESOURCES,
            "attributes": [{"name": "ecs.os-type", "value": "linux"}, {"name": "ecs.capability.task-eni"}],
            "clientToken": str(uuid.uuid4()),
            **more,
        }

    async def register(self, **more: Any) -> Any:
        status, answer, _ = await self.call("RegisterContainerInstance", self.registration(**more))
        assert status == 200, answer
        self.arn = answer["containerInstance"]["containerInstanceArn"]
        return answer["containerInstance"]

    def socket_url(self, channel: str = "acs", **altered: str) -> str:
        cluster, versions = self.control.names.cluster, {"agentHash": "0123abcd", "agentVersion": "1.0.0"}
        query = {
            "acs": {
                **versions,
                "clusterArn": cluster,
                "containerInstanceArn": self.arn,
                "dockerVersion": "DockerVersion: 20.10.24",
                "protocolVersion": "2",
                "sendCredentials": "true",
                "seqNum": "1",
            },
            "tcs": {
                **versions,
                "cluster": cluster,
                "containerInstance": self.arn,
                "dockerVersion": "20.10.24",
            },
        }[channel]
        # quote, not quote_plus: botocore signs a plus sign as it stands, and others read it as a space.
        encoded = urlencode({**query, **altered}, quote_via=lambda text, *_: _quoted(text))
        return f"{self.control.url}/{channel}/ws?{encoded}".replace("http", "ws", 1)

    def connected(
        self, http: aiohttp.ClientSession, channel: str = "acs", *, ssl: Any = True, **altered: str
    ) -> Any:
        """A websocket to be entered with ``async with``."""
        url = self.socket_url(channel, **altered)
        headers = self.signature("GET", url.replace("ws", "http", 1), b"", {})
        return http.ws_connect(URL(url, encoded=True), headers=headers, ssl=ssl)

    def frame(self, kind: str, message: Any, channel: str = "tcs") -> bytes:
        payload = json.dumps({"type": kind, "message": message}).encode()
        url = self.socket_url(channel).replace("ws", "http", 1)
        signed = self.signature("GET", url, payload, {"Host": self.control.host})
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return lines.encode() + b"\r\n" + payload


def _quoted(text: str) -> str:
    return quote(text, safe="")


class Ear:
    """Reads a websocket as an agent does, and acknowledges everything."""

    def __init__(self, control: ControlPlane, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.control, self.socket = control, socket

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """The next message (of that type); those before it are dropped."""
        async with asyncio.timeout(QUICK):
            while True:
                document = json.loads(await self.socket.receive_str())
                if kind in (None, document["type"]):
                    return document

    async def say(self, kind: str, **message: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, "message": message}))

    async def ack(self, message: dict[str, Any]) -> None:
        await self.say(
            "AckRequest",
            cluster=message["clusterArn"],
            containerInstance=message["containerInstanceArn"],
            messageId=message["messageId"],
        )

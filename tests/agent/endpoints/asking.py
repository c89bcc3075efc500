"""How the tests of the endpoints make tasks and ask."""

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Interface

from agent.endpoints.serving import Limits, Served
from agent.model.ids import CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.spec import ContainerSpec, NetworkInterface, PortMapping, TaskRole, TaskSpec
from agent.model.state import Attachment, Container, Sandbox, TaskState
from agent.model.status import SandboxStatus
from tests.fakes.clock import NOON


def a_task(number: int, address: str | None = None, **changes) -> TaskState:
    """A task with a task role ``task-id-<number>`` and an execution role ``execution-id-<number>``."""
    task_id = f"{number:032x}"
    network = NetworkInterface(
        attachment_arn=f"arn:aws:ecs:us-west-2:123456789012:attachment/{number}",
        eni_id=f"eni-{number}",
        subnet_id="subnet-1",
        mac_address=MacAddress(f"02:00:00:00:00:{number:02x}"),
        ipv4_addresses=(IPv4Interface(f"10.0.1.{number}/24"),),
        gateways=("10.0.1.1",),
        expires_at=NOON + timedelta(minutes=3),
    )
    spec = TaskSpec(
        arn=TaskArn(f"arn:aws:ecs:us-west-2:123456789012:task/default/{task_id}"),
        cluster="default",
        family="web",
        revision="3",
        containers=(
            ContainerSpec(
                name="app",
                image="berth/demo-web",
                environment=(("CANARY", "canary-of-the-environment"),),
                port_mappings=(PortMapping(80, 80),),
            ),
        ),
        network=network,
        task_role=TaskRole(
            RoleArn(f"arn:aws:iam::123456789012:role/task-{number}"), CredentialsId(f"task-id-{number}")
        ),
        execution_role=TaskRole(
            RoleArn("arn:aws:iam::123456789012:role/execution"), CredentialsId(f"execution-id-{number}")
        ),
    )
    values = {
        "spec": spec,
        "sandbox": Sandbox(
            docker_name=f"ecs-web-3-pause-{number}",
            status=SandboxStatus.CONNECTED,
            attachment=Attachment(address) if address else None,
        ),
        "containers": (Container(name="app", docker_name=f"ecs-web-3-app-{number}"),),
        "accepted_at": NOON,
        "now": NOON,
    }
    return TaskState(**{**values, **changes})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    port: int,
    target: str,
    *,
    source: str = "127.0.0.1",
    method: str = "GET",
    host: str | None = "169.254.170.2",
    extra: str = "",
) -> Answer:
    """One plain HTTP/1.1 request, written by hand so that anything can be sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        hosts = f"Host: {host}\r\n" if host is not None else ""
        writer.write(f"{method} {target} HTTP/1.1\r\n{hosts}Connection: close\r\n{extra}\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, body)


@asynccontextmanager
async def served(application, limits: Limits | None = None):
    """Serve on a free port of 127.0.0.1 and yield the port."""
    async with Served(application, limits) as endpoint:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 16384
        )  # so that an unread answer is noticed soon
        port = listening.getsockname()[1]
        await endpoint.listen("test", listening)
        yield port

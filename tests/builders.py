"""Readable inputs: ``a_spec(a_container("web", after=["db"]))``."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface

from agent.lifecycle.derive import begin
from agent.model.ids import ContainerId, CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.observation import ContainerSnapshot
from agent.model.spec import (
    Condition,
    ContainerSpec,
    Dependency,
    NetworkInterface,
    PullBehavior,
    TaskRole,
    TaskSpec,
)
from agent.model.state import Policy, TaskState

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ACCOUNT = "111122223333"


def task_arn(number: int = 1) -> TaskArn:
    return TaskArn(f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/default/{number:032x}")


def a_network(number: int = 1, *, expires_at: datetime = NOON + timedelta(minutes=5)) -> NetworkInterface:
    return NetworkInterface(
        attachment_arn=f"arn:aws:ecs:us-east-1:{ACCOUNT}:attachment/default/{number:032x}",
        eni_id=f"eni-{number:017x}",
        subnet_id="subnet-00000000000000001",
        mac_address=MacAddress(f"0e:00:00:00:{number >> 8 & 255:02x}:{number & 255:02x}"),
        ipv4_addresses=(IPv4Interface(f"10.0.{number >> 8 & 255}.{(number & 255) + 4}/16"),),
        gateways=("10.0.0.1",),
        expires_at=expires_at,
        private_dns_name=f"ip-10-0-0-{number + 4}.ec2.internal",
    )


def a_container(
    name: str = "app",
    *,
    essential: bool = True,
    after: dict[str, Condition] | None = None,
    start_timeout: int | None = None,
    stop_timeout: int | None = None,
) -> ContainerSpec:
    return ContainerSpec(
        name=name,
        image=f"example/{name}:1",
        essential=essential,
        memory=64,
        start_timeout=start_timeout,
        stop_timeout=stop_timeout,
        depends_on=tuple(Dependency(each, condition) for each, condition in (after or {}).items()),
    )


def a_spec(
    *containers: ContainerSpec,
    number: int = 1,
    role: str | None = None,
    pull_behavior: PullBehavior = PullBehavior.DEFAULT,
    network: NetworkInterface | None = None,
) -> TaskSpec:
    return TaskSpec(
        arn=task_arn(number),
        cluster="default",
        family="web",
        revision="1",
        containers=containers or (a_container(),),
        network=network or a_network(number),
        task_role=None
        if role is None
        else TaskRole(RoleArn(f"arn:aws:iam::{ACCOUNT}:role/{role}"), CredentialsId(f"creds-{number}")),
        pull_behavior=pull_behavior,
    )


def a_task(*containers: ContainerSpec, number: int = 1, policy: Policy | None = None) -> TaskState:
    """Accepted, and with its share of the machine."""
    return replace(begin(a_spec(*containers, number=number), NOON, policy or Policy()), granted_at=NOON)


def a_snapshot(
    task: TaskState,
    container: str,
    *,
    running: bool = True,
    started: bool = True,
    exit_code: int | None = None,
    at: datetime = NOON,
    **more: object,
) -> ContainerSnapshot:
    docker_name = (
        task.sandbox.docker_name if container.startswith("~") else task.container(container).docker_name
    )
    return ContainerSnapshot(
        container_id=ContainerId(f"id-of-{docker_name}"),
        docker_name=docker_name,
        task_arn=task.arn,
        container_name=container,
        observed_at=at,
        is_running=running,
        was_started=started,
        pid=4242 if running else None,
        created_at=at,
        started_at=at if started else None,
        finished_at=None if running or not started else at,
        exit_code=exit_code,
        **more,  # type: ignore[arg-type]
    )

"""Task states of every shape: one with every field set, and random ones."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from hypothesis import strategies as st

from agent.model.ids import ContainerId, CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.report import AttachmentReport, ContainerReport, TaskReport
from agent.model.spec import (
    Condition,
    ContainerSpec,
    Dependency,
    Device,
    HealthCheck,
    LinuxParameters,
    LogConfiguration,
    MountPoint,
    NetworkInterface,
    PortMapping,
    PullBehavior,
    TaskRole,
    TaskSpec,
    Tmpfs,
    Ulimit,
    Volume,
)
from agent.model.state import Attachment, Container, InFlight, Policy, Reason, Sandbox, TaskState, Trouble
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus, TaskStatus
from agent.model.steps import Step, StepName

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
ARN = TaskArn("arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef")


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_rich_task() -> TaskState:
    """Three containers, and no field of any record left at None or empty."""
    containers = (
        ContainerSpec(
            name="web",
            image="registry.example/web@sha256:00",
            cpu=128,
            memory=256,
            memory_reservation=128,
            command=("serve", "--port", "80"),
            entry_point=("/bin/sh", "-c"),
            environment=(("A", "1"), ("B", "zwei ü")),
            working_directory="/srv",
            user="1000:1000",
            depends_on=(Dependency("db", Condition.HEALTHY), Dependency("seed", Condition.SUCCESS)),
            start_timeout=30,
            stop_timeout=5,
            health_check=HealthCheck(("CMD-SHELL", "true"), 10, 2, 5, 1),
            port_mappings=(PortMapping(80, 80, "tcp", "http"),),
            mount_points=(MountPoint("data", "/data", True),),
            ulimits=(Ulimit("nofile", 1024, 4096),),
            log_configuration=LogConfiguration("json-file", (("max-size", "1m"),)),
            linux=LinuxParameters(
                True,
                ("NET_ADMIN",),
                ("MKNOD",),
                64,
                (Tmpfs("/t", 16, ("noexec",)),),
                (Device("/dev/null", "/n"),),
            ),
            docker_labels=(("team", "a"),),
            security_options=("no-new-privileges",),
            system_controls=(("net.core.somaxconn", "64"),),
            privileged=True,
            read_only_root=True,
            interactive=True,
            pseudo_terminal=True,
        ),
        ContainerSpec("db", "db:1", essential=False),
        ContainerSpec("seed", "seed:1", essential=False, depends_on=(Dependency("db", Condition.START),)),
    )
    spec = TaskSpec(
        arn=ARN,
        cluster="default",
        family="web",
        revision="7",
        containers=containers,
        network=NetworkInterface(
            attachment_arn="arn:aws:ecs:us-east-1:000000000000:attachment/1",
            eni_id="eni-0123",
            subnet_id="subnet-1",
            mac_address=MacAddress("02:00:00:00:00:01"),
            ipv4_addresses=(IPv4Interface("10.0.1.5/24"),),
            gateways=("10.0.1.1",),
            expires_at=after(300),
            ipv6_addresses=(IPv6Interface("fd00::5/64"),),
            private_dns_name="ip-10-0-1-5.internal",
            dns_servers=("10.0.0.2",),
            dns_search=("internal",),
            mtu=9001,
        ),
        volumes=(Volume("data", "/srv/data"),),
        cpu=512,
        memory=1024,
        task_role=TaskRole(RoleArn("arn:aws:iam::000000000000:role/task"), CredentialsId("11")),
        execution_role=TaskRole(RoleArn("arn:aws:iam::000000000000:role/exec"), CredentialsId("22")),
        group="service:web",
        launch_type="EXTERNAL",
        pull_behavior=PullBehavior.PREFER_CACHED,
    )
    trouble = Trouble(Reason("DockerTimeoutError", "took too long"), 3, after(1), after(9))
    report = TaskReport(
        task_arn=ARN,
        status=TaskStatus.RUNNING,
        containers=(
            ContainerReport(
                "web",
                TaskStatus.STOPPED,
                ContainerId("c" * 64),
                137,
                "OutOfMemoryError",
                "sha256:00",
                Health.UNHEALTHY,
            ),
        ),
        attachments=(AttachmentReport("arn:aws:ecs:us-east-1:000000000000:attachment/1"),),
        reason="scaled in",
        pull_started_at=after(1),
        pull_stopped_at=after(2),
        started_at=after(3),
        stopping_at=after(4),
        execution_stopped_at=after(5),
        stopped_at=after(6),
    )
    return TaskState(
        spec=spec,
        sandbox=Sandbox(
            docker_name="ecs-web-7-pause",
            status=SandboxStatus.CONNECTED,
            goal=Goal.STOP,
            since=after(1),
            container_id=ContainerId("a" * 64),
            pid=4711,
            attachment=Attachment("169.254.172.2"),
            interface_seen_at=after(0.5),
            in_flight=InFlight(Step(StepName.DETACH_NETWORK, None, 12), after(7), after(37)),
            trouble=trouble,
        ),
        containers=(
            Container(
                name="web",
                docker_name="ecs-web-7-web",
                status=ContainerStatus.RUNNING,
                goal=Goal.REMOVE,
                since=after(2),
                container_id=ContainerId("b" * 64),
                image_id="sha256:11",
                image_digest="sha256:00",
                pid=4712,
                created_at=after(2),
                started_at=after(3),
                finished_at=after(4),
                exit_code=137,
                health=Health.UNHEALTHY,
                health_since=after(3.5),
                health_output="no\x00 answer \udcff",
                pull_started_at=after(1),
                pull_stopped_at=after(2),
                reason=Reason("OutOfMemoryError", "killed"),
                in_flight=InFlight(Step(StepName.STOP_CONTAINER, "web", 13), after(7), after(37)),
                trouble=trouble,
            ),
            Container("db", "ecs-web-7-db"),
            Container("seed", "ecs-web-7-seed"),
        ),
        accepted_at=NOON,
        now=after(8),
        policy=Policy(stop_grace=timedelta(seconds=12.5), retention=timedelta(days=2)),
        goal=Goal.STOP,
        reason=Reason("", "scaled in"),
        started_at=after(3),
        stop_requested_at=after(4),
        execution_stopped_at=after(5),
        stopped_at=after(6),
        accepted=report,
        next_step=14,
    )


def zones() -> st.SearchStrategy[timezone]:
    return st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def times() -> st.SearchStrategy[datetime]:
    # hypothesis wants its bounds without a zone
    return st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=zones())  # noqa: DTZ001


st.register_type_strategy(datetime, times())
st.register_type_strategy(timedelta, st.timedeltas(timedelta(0), timedelta(days=10_000)))
st.register_type_strategy(str, st.text(st.characters(codec=None), max_size=12))


@st.composite
def tasks(draw: st.DrawFn) -> TaskState:
    """Any state that the types allow, with the names of its containers in agreement."""
    # The containers come below: drawing others first and throwing them away takes most of the time.
    spec = st.builds(TaskSpec, **_drawn(TaskSpec, containers=st.just(())))
    state = draw(st.builds(TaskState, **_drawn(TaskState, spec=spec, containers=st.just(()))))
    names = draw(st.lists(st.text(max_size=8), unique=True, max_size=3))
    specs = tuple(replace(draw(st.from_type(ContainerSpec)), name=name) for name in names)
    containers = tuple(replace(draw(st.from_type(Container)), name=name) for name in names)
    accepted = None if state.accepted is None else replace(state.accepted, task_arn=state.arn)
    return replace(
        state, spec=replace(state.spec, containers=specs), containers=containers, accepted=accepted
    )


def _drawn(kind: type, **given: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Arguments for ``builds``: every field is drawn by its type, also one that has a default."""
    return {**dict.fromkeys((field.name for field in fields(kind)), ...), **given}

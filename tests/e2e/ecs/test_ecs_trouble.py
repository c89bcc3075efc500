"""What goes wrong between a running agent and its cluster: refused reports, broken channels, nonsense."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, job, web
from tests.e2e.ecs.conftest import connected
from tests.e2e.inside import Containers
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.faults import (
    Fault,
    hang_up,
    html,
    not_json,
    redirect,
    refused,
    server_error,
    throttled,
)
from tests.fakes.ecs.links import EniLinks
from tests.fakes.ecs.sockets import Outgoing
from tests.fakes.ecs.tasks import Json, task_document
from tests.fakes.ecs.truth import TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SUBMIT = "SubmitTaskStateChange"
UNREADABLE = "UnrecogniedTaskError: Error loading task - "
ENDS = "trap 'exit 6' TERM; while :; do sleep 0.05; done"


FEW = 2


@pytest.fixture(autouse=True)
def healed(agent: EcsAgent, cluster: Cluster, control: ControlPlane) -> Iterator[None]:
    """After each test: nothing is spoiled any more, and the agent is well and has not ended.

    An agent that was cut off more than a few times waits longer and longer before it connects again, as it
    should. The next test begins with another one.
    """
    if _cut_off(agent) > FEW:
        assert agent.stop() == 0
        connected(agent, cluster)
        _excuse_the_lost(cluster)
    pid = agent.pid
    yield
    if _cut_off(agent):
        _excuse_the_lost(cluster)
    control.faults.heal()
    control.server.accept_connections()
    assert agent.is_running
    assert agent.pid == pid
    assert not [line for line in agent.lines() if str(line.get("event", "")).endswith(".crashed")]


def _excuse_the_lost(cluster: Cluster) -> None:
    """What a connection took along when it was cut, and the service does not send again."""
    never_again = ("HeartbeatMessage", "TaskManifestMessage")
    cluster.refused |= {each.message_id for each in cluster.control.unacked() if each.type in never_again}


def _cut_off(agent: EcsAgent) -> int:
    """How often this process has lost its control channel, or could not connect it."""
    count = 0
    for line in agent.lines():
        if line.get("channel") != "control":
            continue
        if line["event"] == "channel.connected" and line["number"] == 1:
            count = 0
        count += line["event"] in ("channel.closed", "channel.failed", "channel.refused")
    return count


def statuses(task: TaskRecord) -> list[str]:
    """The task's accepted statuses, without PENDING and the repetitions that carry containers' news."""
    return [each for each in dict.fromkeys(body["status"] for body in task.reports) if each != "PENDING"]


# -- reports -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        throttled(),
        server_error(503),
        hang_up(),
        html(502),
        not_json(),
        redirect("https://elsewhere.example/"),
    ],
    ids=lambda fault: fault.name,
)
def test_reports_that_meet_trouble_are_delivered_later_and_in_order(
    cluster: Cluster, control: ControlPlane, fault: Fault
) -> None:
    control.faults.plan(SUBMIT, fault, times=7)  # more than one report tries for by itself
    tasks = [cluster.announce(a_task(job("sleep 0.2; exit 4"))) for _ in range(2)]
    for task in tasks:
        control.wait_attached(task.arn)
        control.send_payload(task)
    for task in tasks:
        control.wait_status(task.arn, "STOPPED")
        assert statuses(task) in (["RUNNING", "STOPPED"], ["STOPPED"])
        assert task.containers["app"].exit_code == 4
    assert control.faults.left(SUBMIT) == 0


def test_a_poisonous_report_is_dropped_and_what_follows_is_told(
    cluster: Cluster, control: ControlPlane
) -> None:
    task = cluster.announce(a_task(job(ENDS)))
    control.wait_attached(task.arn)
    control.faults.plan(SUBMIT, refused("InvalidParameterException", "Invalid container name"))
    control.send_payload(task)
    control.wait_for(lambda: control.faults.left(SUBMIT) == 0, what="the refused report")
    other = cluster.run(a_task(web()))
    assert task.status == ""  # dropped, not repeated
    control.stop_task(task.arn)
    control.wait_status(task.arn, "STOPPED")
    assert task.containers["app"].exit_code == 6
    assert other.status == "RUNNING"


# -- the channel -------------------------------------------------------------------------------


def _reset(control: ControlPlane) -> None:
    control.server.drop_connections(reset=True)


def _dropped(control: ControlPlane) -> None:
    control.server.drop_connections()


def _closed(code: int) -> Callable[[ControlPlane], None]:
    def close(control: ControlPlane) -> None:
        control.acs.side.close(code, "the test closes")

    return close


@pytest.mark.parametrize(
    "end",
    [_reset, _dropped, _closed(1000), _closed(1008), _closed(4000)],
    ids=["reset", "dropped", "1000", "1008", "4000"],
)
def test_a_connection_that_ends_is_made_again_without_another_look_for_the_endpoint(
    cluster: Cluster,
    control: ControlPlane,
    end: Callable[[ControlPlane], None],
) -> None:
    shake = control.wait_connected()
    asked = len(control.calls("DiscoverPollEndpoint"))
    end(control)
    control.wait_for(lambda: shake.closed_at is not None, what="the end of the connection")
    found = control.wait_connected(times=(shake.connection or 0) + 1)
    assert found.query["sendCredentials"] == "false"
    assert len(control.calls("DiscoverPollEndpoint")) == asked
    control.wait_acked(control.heartbeat())


def test_what_was_not_acknowledged_comes_again_and_is_done_once(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    task = cluster.announce(a_task(web()))
    control.wait_attached(task.arn)
    control.acs.swallow("AckRequest")
    control.acs.swallow("IAMRoleCredentialsAckRequest")
    payload = control.send_payload(task)
    control.wait_status(task.arn, "RUNNING")
    assert control.acs.sent(payload).owed
    identities = containers.identities([task.arn])
    control.acs.side.close(1001, "going away")
    control.wait_acked(payload)
    assert containers.identities([task.arn]) == identities
    assert len(identities) == 2


def test_a_cluster_that_is_away_for_a_while_changes_nothing_for_tasks(
    agent: EcsAgent, cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    staying, leaving = cluster.run_all([a_task(web()), a_task(job(ENDS))])
    identities = containers.identities([staying.arn])
    with control.unreachable():
        containers.kill(cluster.runtime_id(leaving), "TERM")
        ordered = cluster.announce(a_task(web()))  # heard of when the cluster is back
        time.sleep(20)
        assert agent.get("/health")[0] == 503
        assert "backend" in agent.impaired()
        assert leaving.status == "RUNNING"
    control.wait_connected(seconds=40)
    control.wait_status(leaving.arn, "STOPPED", 40)
    assert leaving.containers["app"].exit_code == 6
    control.wait_attached(ordered.arn)
    control.send_payload(ordered)
    control.wait_status(ordered.arn, "RUNNING")
    assert containers.identities([staying.arn]) == identities
    eventually("all is well", lambda: agent.get("/health")[0] == 200)


# -- messages ----------------------------------------------------------------------------------


def _message(kind: str, **body: Any) -> str:
    return json.dumps({"type": kind, "message": body})


NONSENSE: dict[str, str | bytes] = {
    "unknown type": _message("MakeCoffeeMessage", messageId="m-1", sugar=2),
    "no envelope": "[1, 2, 3]",
    "no JSON": '{"type": "PayloadMessage", "message": {',
    "empty": "",
    "deep": "[" * 50_000,
    "payload without an id": _message("PayloadMessage", tasks=[]),
    "payload of wrong types": _message("PayloadMessage", messageId=7, clusterArn=[], tasks="none"),
    "tasks that are none": _message(
        "PayloadMessage", messageId="m-2", clusterArn="c", containerInstanceArn="i", tasks=[None, 3, "x", {}]
    ),
    "credentials without a task": _message("IAMRoleCredentialsMessage", messageId="m-3", roleType="Nobody"),
    "manifest of nothing": _message("TaskManifestMessage", messageId="m-4", timeline="soon"),
    "attachment of nothing": _message(
        "AttachTaskNetworkInterfacesMessage", messageId="m-5", waitTimeoutMs=-1
    ),
    "an error": _message("ServerException", message="we are sorry"),
    "a close": _message("CloseMessage", message="see you"),
    "large": _message("MakeCoffeeMessage", beans="x" * 3_000_000),
    "binary": b"\x00\xff\xfe not text \x80",
}


def test_nonsense_on_the_control_channel_is_skipped_and_the_next_payload_works(
    agent: EcsAgent, cluster: Cluster, control: ControlPlane
) -> None:
    shake = control.wait_connected()
    for name, frame in NONSENSE.items():
        control.acs.side.post_frame(Outgoing(frame, f"({name})", None))
    control.send_raw(
        _message("HeartbeatMessage", messageId="m-6", healthy=True).encode()
    )  # in a binary frame
    task = cluster.run(a_task(web()))
    assert control.wait_connected() is shake  # the same connection as before
    control.stop_task(task.arn, wait=True)
    assert len(agent.said("message.skipped")) + len(agent.said("message.dropped")) >= 10


def test_a_message_that_is_too_large_costs_its_connection_only(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    task = cluster.run(a_task(web()))
    identities = containers.identities([task.arn])
    shake = control.wait_connected()
    control.send_raw(_message("MakeCoffeeMessage", beans="x" * 5_000_000))
    control.wait_for(lambda: shake.closed_at is not None, what="the end of the connection")
    control.wait_connected(times=(shake.connection or 0) + 1, seconds=30)
    cluster.run(a_task(web()))
    assert containers.identities([task.arn]) == identities


def test_payloads_that_come_twice_and_in_the_wrong_order_are_one_task(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    task = cluster.announce(a_task(web()))
    control.wait_attached(task.arn)
    control.acs.side.copies = 3
    try:
        sent = [control.send_payload(task) for _ in range(3)]
    finally:
        control.acs.side.copies = 1
    control.wait_status(task.arn, "RUNNING")
    for each in sent:
        control.wait_acked(each)
    assert len(containers.of(task.arn)) == 2

    # stop overtakes start: a task never goes back
    late = cluster.announce(a_task(web()))
    control.wait_attached(late.arn)
    control.acs.side.hold()
    first = control.send_payload(late)
    second = control.stop_task(late.arn)
    control.acs.side.release(is_reversed=True)
    control.wait_status(late.arn, "STOPPED")
    control.wait_acked(first)
    control.wait_acked(second)
    assert "RUNNING" not in statuses(late)
    assert not [each for each in containers.of(late.arn) if each["State"]["Running"]]


# -- tasks that cannot be ----------------------------------------------------------------------


def _bridge(document: Json) -> None:
    document["networkMode"] = "bridge"


def _no_containers(document: Json) -> None:
    document["containers"] = []


def _bad_host_config(document: Json) -> None:
    document["containers"][0]["dockerConfig"]["hostConfig"] = '{"CapAdd": ['


def _no_interface(document: Json) -> None:
    document["elasticNetworkInterfaces"] = []


def _proxy(document: Json) -> None:
    document["proxyConfiguration"] = {"type": "APPMESH", "containerName": "web"}


INVALID: dict[str, tuple[Callable[[Json], None], str]] = {
    "bridge": (_bridge, "the task asks for network mode bridge; this agent supports only awsvpc"),
    "no containers": (_no_containers, "containers"),
    "host config": (_bad_host_config, "hostConfig"),
    "no interface": (_no_interface, "0 elastic network interfaces"),
    "proxy": (_proxy, "a proxy (App Mesh)"),
}


def test_tasks_that_cannot_be_run_are_told_as_stopped_and_the_others_run(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    good = cluster.announce(a_task(web()))
    control.wait_attached(good.arn)
    for spoil, said in INVALID.values():
        arn = control.names.new_task_arn()
        document = task_document(a_task(web()), control.names, arn, enis=(cluster.enis.plan(),))
        spoil(document)
        control.acs.message(
            "PayloadMessage",
            {
                "messageId": f"bad-{arn[-12:]}",
                "clusterArn": control.names.cluster_arn,
                "containerInstanceArn": control.instance.arn if control.instance else "",
                "seqNum": control.truth.next_sequence(),
                "tasks": [_known(control, arn, document)],
            },
        )
        task = control.wait_status(arn, "STOPPED")
        assert task.reason.startswith(UNREADABLE), task.reason
        assert said in task.reason
        assert containers.of(arn) == []
    control.send_payload(good)
    control.wait_status(good.arn, "RUNNING")


def _known(control: ControlPlane, arn: str, document: Json) -> Json:
    """The cluster knows that task as well, so that a report of it is no surprise."""
    with control.journal.lock:
        record = control.truth.new_task(arn)
        record.document, record.desired_status = document, "RUNNING"
    return document


# -- interfaces --------------------------------------------------------------------------------


def test_an_interface_that_never_comes_stops_its_task_with_a_reason(
    cluster: Cluster, control: ControlPlane, enis: EniLinks
) -> None:
    task = control.new_task(a_task(web()), enis.plan())
    control.wait_acked(control.attach(task.arn, wait_ms=2500))
    control.wait_acked(control.send_payload(task))  # the service is ahead of its time
    control.wait_status(task.arn, "STOPPED", 20)
    assert not [body for _, body in task.history if "attachments" in body]
    assert task.reason
    assert "network interface" in task.reason.lower()
    enis.appear(task.enis[0])
    time.sleep(0.5)
    assert not [body for _, body in task.history if "attachments" in body]


def test_an_interface_that_comes_late_is_told_then_and_one_that_comes_too_late_never(
    cluster: Cluster, control: ControlPlane, enis: EniLinks
) -> None:
    late, too_late = (control.new_task(a_task(web()), enis.plan()) for _ in range(2))
    control.wait_acked(control.attach(late.arn, wait_ms=30_000))
    control.wait_acked(control.attach(too_late.arn, wait_ms=1000))
    time.sleep(3)
    for task in (late, too_late):
        enis.appear(task.enis[0])
    control.wait_attached(late.arn)
    control.send_payload(late)
    control.wait_status(late.arn, "RUNNING")
    time.sleep(1)
    assert too_late.history == []
    enis.detach(too_late.enis[0].mac)


def test_the_device_may_be_there_before_anybody_announces_it(
    cluster: Cluster, control: ControlPlane, enis: EniLinks
) -> None:
    task = control.new_task(a_task(web()), enis.plan())
    enis.appear(task.enis[0])
    time.sleep(0.5)
    control.attach(task.arn)
    control.wait_attached(task.arn)
    control.send_payload(task)
    control.wait_status(task.arn, "RUNNING")

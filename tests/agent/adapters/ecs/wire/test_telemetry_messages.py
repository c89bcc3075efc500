"""The telemetry messages against real ones of the wire (addresses and names as they were recorded)."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.adapters.ecs.wire.envelope import Envelope
from agent.adapters.ecs.wire.telemetry import (
    LARGEST_LONG,
    ContainerHealth,
    ContainerMetrics,
    Instance,
    InstanceStatus,
    LinkWindow,
    RuntimeStatus,
    TaskHealth,
    TaskLabel,
    TaskMetrics,
    Window,
    counter_set,
    health_messages,
    idle_message,
    metrics_messages,
    seconds,
    stats_set,
    status_message,
    telemetry_url,
    text_of,
)
from agent.model.status import Health
from agent.model.usage import LinkUsage

INSTANCE = Instance(
    "fk-cluster",
    "arn:aws:ecs:us-west-2:111122223333:container-instance/fk-cluster/38132122dde54023aba545490dce0b39",
)
TASK = TaskLabel(
    "arn:aws:ecs:us-west-2:111122223333:task/fk-cluster/fbfbcde1d910497ba1f0ec7c13ac13a8", "fknoimage", "1"
)
METADATA = {"cluster": INSTANCE.cluster, "containerInstance": INSTANCE.arn}


def at(epoch: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=epoch)


def body(text: str, kind: str):
    found = json.loads(text)
    assert found.keys() == {"type", "message"}
    assert found["type"] == kind
    return found["message"]


# -- like on the wire ----------------------------------------------------------------------------


def test_an_idle_machine_says_what_was_recorded():
    text = idle_message(INSTANCE, at=at(1795226357.73), message_id="430246b7-a7ce-45f2-857e-e8a3a8a7ef5f")
    assert body(text, "PublishMetricsRequest") == {
        "metadata": {
            **METADATA,
            "fin": True,
            "idle": True,
            "messageId": "430246b7-a7ce-45f2-857e-e8a3a8a7ef5f",
        },
        "timestamp": 1795226357.73,
    }


def test_a_pause_container_is_told_as_recorded():
    window = Window(cpu=(0.0,) * 20, memory=(0,) * 21, storage_read=(0,) * 21, storage_written=(0,) * 21)
    pause = ContainerMetrics("~internal~ecs~pause", window)
    [text] = metrics_messages(
        INSTANCE,
        [TaskMetrics(TASK, (pause,))],
        at=at(1795226477.717),
        message_id="341d82cf-0120-4f78-9829-d4aae8e04a51",
    )
    nothing = {
        "max": 0,
        "min": 0,
        "overflowMax": 0,
        "overflowMin": 0,
        "overflowSum": 0,
        "sampleCount": 21,
        "sum": 0,
    }
    assert body(text, "PublishMetricsRequest") == {
        "metadata": {
            **METADATA,
            "fin": True,
            "idle": False,
            "messageId": "341d82cf-0120-4f78-9829-d4aae8e04a51",
        },
        "taskMetrics": [
            {
                "containerMetrics": [
                    {
                        "containerName": "~internal~ecs~pause",
                        "cpuStatsSet": {"max": 0, "min": 0, "sampleCount": 20, "sum": 0},
                        "memoryStatsSet": {"max": 0, "min": 0, "sampleCount": 21, "sum": 0},
                        "storageStatsSet": {"readSizeBytes": nothing, "writeSizeBytes": nothing},
                    }
                ],
                "taskArn": TASK.arn,
                "taskDefinitionFamily": "fknoimage",
                "taskDefinitionVersion": "1",
            }
        ],
        "timestamp": 1795226477.717,
    }
    assert ".0" not in text  # whole numbers are written as such, also the doubles


def test_the_status_of_the_runtime_is_told_as_recorded():
    status = InstanceStatus(RuntimeStatus.OK, since=at(1795226357.731), checked_at=at(1795226357.715))
    text = status_message(
        INSTANCE, status, at=at(1795226377.73), request_id="8ac1a763-c29c-45cd-add9-f250940ca34a"
    )
    assert body(text, "PublishInstanceStatusRequest") == {
        "metadata": {**METADATA, "requestId": "8ac1a763-c29c-45cd-add9-f250940ca34a"},
        "statuses": [
            {
                "lastStatusChange": 1795226357.731,
                "lastUpdated": 1795226357.715,
                "status": "OK",
                "type": "ContainerRuntime",
            }
        ],
        "timestamp": 1795226377.73,
    }


def test_the_url_has_the_recorded_keys_and_no_prefix_before_dockers_version():
    url = telemetry_url(
        "https://ecs-t-1.us-west-2.amazonaws.com/tcs",
        INSTANCE,
        agent_version="1.105.1",
        agent_hash="a8b3e7d3",
        docker_version="20.10.24+dfsg1",
    )
    assert url == (
        "https://ecs-t-1.us-west-2.amazonaws.com/tcs/ws?agentHash=a8b3e7d3&agentVersion=1.105.1"
        "&cluster=fk-cluster&containerInstance=arn%3Aaws%3Aecs%3Aus-west-2%3A111122223333%3A"
        "container-instance%2Ffk-cluster%2F38132122dde54023aba545490dce0b39&dockerVersion=20.10.24%2Bdfsg1"
    )


def test_an_unknown_docker_version_is_left_out_and_a_slash_is_not_doubled():
    url = telemetry_url(
        "https://t.example/", Instance("c", "a"), agent_version="1", agent_hash="h", docker_version=""
    )
    assert url == "https://t.example/ws?agentHash=h&agentVersion=1&cluster=c&containerInstance=a"


# -- what was not recorded, from the protocol's text ---------------------------------------------


def test_an_application_container_has_its_arn_its_network_and_its_rates():
    def link(rx: int, tx: int) -> LinkUsage:
        return LinkUsage(rx, 2, 3, 4, tx, 6, 7, 8)

    network = LinkWindow((link(10, 100), link(30, 400)), rx_rates=(10.0,), tx_rates=(150.5,))
    app = ContainerMetrics("app", Window(cpu=(0.1, 2.0), memory=(30, 31)), arn="arn:container", link=network)
    task = TaskLabel("arn:task", "web", "7", cluster_arn="arn:cluster")
    [text] = metrics_messages(INSTANCE, [TaskMetrics(task, (app,))], at=at(1), message_id="m")
    [told] = body(text, "PublishMetricsRequest")["taskMetrics"]
    assert told["clusterArn"] == "arn:cluster"
    [container] = told["containerMetrics"]
    assert container.keys() == {
        "containerArn", "containerName", "cpuStatsSet", "memoryStatsSet", "networkStatsSet"
    }  # fmt: skip
    assert container["containerArn"] == "arn:container"
    assert container["cpuStatsSet"] == {"min": 0.1, "max": 2, "sum": 2.1, "sampleCount": 2}
    assert container["memoryStatsSet"] == {"min": 30, "max": 31, "sum": 61, "sampleCount": 2}
    sets = container["networkStatsSet"]
    assert sets.keys() == {
        "rxBytes", "rxDropped", "rxErrors", "rxPackets", "txBytes", "txDropped", "txErrors", "txPackets",
        "rxBytesPerSecond", "txBytesPerSecond",
    }  # fmt: skip
    whole = {"sampleCount": 2, "overflowMax": 0, "overflowMin": 0, "overflowSum": 0}
    assert sets["rxBytes"] == {"min": 10, "max": 30, "sum": 40, **whole}
    assert sets["txBytes"] == {"min": 100, "max": 400, "sum": 500, **whole}
    sums = {name: sets[name]["sum"] for name in sets if "Bytes" not in name}
    assert sums == {
        "rxPackets": 4, "rxErrors": 6, "rxDropped": 8, "txPackets": 12, "txErrors": 14, "txDropped": 16
    }  # fmt: skip
    assert sets["rxBytesPerSecond"] == {"min": 10, "max": 10, "sum": 10, "sampleCount": 1}
    assert sets["txBytesPerSecond"] == {"min": 150.5, "max": 150.5, "sum": 150.5, "sampleCount": 1}


@pytest.mark.parametrize("window", [Window(memory=(1, 1)), Window(memory=(1, 1), storage_written=(1, 2))])
def test_storage_that_is_not_wholly_known_is_not_told(window):
    app = ContainerMetrics("app", window)
    [text] = metrics_messages(INSTANCE, [TaskMetrics(TASK, (app,))], at=at(1), message_id="m")
    [told] = body(text, "PublishMetricsRequest")["taskMetrics"][0]["containerMetrics"]
    assert told.keys() == {"containerName", "memoryStatsSet"}


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])]
)
def test_ten_tasks_go_into_a_message_and_the_last_one_says_so(count, sizes):
    window = Window(memory=(1, 1))
    tasks = [
        TaskMetrics(TaskLabel(f"arn:{number}", "f", "1"), (ContainerMetrics("app", window),))
        for number in range(count)
    ]
    messages = [
        body(text, "PublishMetricsRequest")
        for text in metrics_messages(INSTANCE, tasks, at=at(5.5), message_id="one")
    ]
    assert [len(each["taskMetrics"]) for each in messages] == sizes
    assert [each["metadata"]["fin"] for each in messages] == [False] * (len(sizes) - 1) + [True] * bool(sizes)
    assert {each["metadata"]["messageId"] for each in messages} <= {"one"}
    told = [task["taskArn"] for each in messages for task in each["taskMetrics"]]
    assert told == [f"arn:{number}" for number in range(count)]

    health = [
        TaskHealth(each.task, (ContainerHealth("app", Health.HEALTHY, at(1)),)) for each in tasks
    ]  # fmt: skip
    parts = [
        body(text, "PublishHealthRequest")
        for text in health_messages(INSTANCE, health, at=at(5.5), message_id="one")
    ]
    assert [len(each["tasks"]) for each in parts] == sizes
    assert [each["metadata"]["fin"] for each in parts] == [each["metadata"]["fin"] for each in messages]


def test_health_is_told_with_the_output_of_a_check_that_has_one():
    containers = (
        ContainerHealth("app", Health.UNHEALTHY, at(1767225600.25), "connection refused"),
        ContainerHealth("side", Health.UNKNOWN, at(1767225601)),
    )
    [text] = health_messages(INSTANCE, [TaskHealth(TASK, containers)], at=at(1767225620.123), message_id="m")
    assert body(text, "PublishHealthRequest") == {
        "metadata": {**METADATA, "fin": True, "messageId": "m"},
        "tasks": [
            {
                "taskArn": TASK.arn,
                "taskDefinitionFamily": "fknoimage",
                "taskDefinitionVersion": "1",
                "containers": [
                    {
                        "containerName": "app",
                        "healthStatus": "UNHEALTHY",
                        "statusSince": 1767225600.25,
                        "statusMessage": "connection refused",
                    },
                    {"containerName": "side", "healthStatus": "UNKNOWN", "statusSince": 1767225601},
                ],
            }
        ],
        "timestamp": 1767225620.123,
    }


def test_an_impaired_runtime_says_why():
    status = InstanceStatus(RuntimeStatus.IMPAIRED, at(1), at(3), "no answer")
    [entry] = body(
        status_message(INSTANCE, status, at=at(4), request_id="r"), "PublishInstanceStatusRequest"
    )["statuses"]
    assert (entry["status"], entry["statusReason"]) == ("IMPAIRED", "no answer")


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "total", "overflow"),
    [
        ((1, 2), 3, 0),
        ((LARGEST_LONG,), LARGEST_LONG, 0),
        ((LARGEST_LONG, 1), LARGEST_LONG, 1),
        ((LARGEST_LONG, LARGEST_LONG), LARGEST_LONG, LARGEST_LONG),
        ((LARGEST_LONG,) * 80, LARGEST_LONG, LARGEST_LONG),
    ],
)
def test_a_sum_beyond_a_long_overflows_into_the_other_field(values, total, overflow):
    found = counter_set(values)
    assert (found["sum"], found["overflowSum"]) == (total, overflow)
    assert found["sampleCount"] == len(values)
    assert (found["min"], found["max"]) == (min(values), max(values))


def test_a_counter_beyond_a_long_overflows_too():
    found = counter_set((LARGEST_LONG + 5, LARGEST_LONG + 9))
    assert (found["min"], found["overflowMin"]) == (LARGEST_LONG, 5)
    assert (found["max"], found["overflowMax"]) == (LARGEST_LONG, 9)


def test_a_double_keeps_its_fraction_and_a_whole_one_has_no_point():
    assert json.dumps(stats_set((0.25, 1.75))) == '{"min": 0.25, "max": 1.75, "sampleCount": 2, "sum": 2}'


def test_times_have_milliseconds_and_no_more():
    assert seconds(datetime(2026, 11, 21, 1, 59, 17, 730499, tzinfo=UTC)) == 1795226357.73
    assert json.dumps(seconds(datetime(2026, 11, 21, 1, 59, 17, tzinfo=UTC))) == "1795226357"


# -- what comes in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [({}, ""), ({"message": "ok"}, "ok"), ({"message": 7}, ""), ({"message": "x" * 900}, "x" * 500)],
)
def test_an_answers_text_is_what_it_says_at_most_500_characters(message, text):
    assert text_of(Envelope("AckPublishMetric", message)) == text

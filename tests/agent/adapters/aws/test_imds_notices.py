"""What is announced to an instance, and when it is believed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from agent.adapters.aws.imds import InstanceMetadata, MetadataUnavailable
from agent.adapters.aws.notices import Notice, Notices, Watching, in_service, watch_spot
from agent.model.errors import CannotStart
from tests.fakes.clock import NOON, FakeClock
from tests.fakes.ecs.imds import InstanceMetadataStandIn

SPOT = "meta-data/spot/instance-action"
SCHEDULED = "meta-data/events/maintenance/scheduled"
LIFECYCLE = "meta-data/autoscaling/target-lifecycle-state"


class Told(InstanceMetadata):
    """Knows what a test has put there; a list is given one by one, the last for ever."""

    def __init__(self, loop=None, **paths) -> None:
        super().__init__()
        self.loop = loop
        self.paths: dict[str, object] = {}
        self.asked: list[tuple[str, float]] = []

    async def fetch(self, path: str) -> bytes | None:
        self.asked.append((path, self.loop.time() if self.loop else 0.0))
        told = self.paths.get(path)
        if isinstance(told, list):
            told = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(told, Exception):
            raise told
        return None if told is None else str(told).encode()

    def times(self, path: str) -> list[float]:
        return [at for asked, at in self.asked if asked == path]


def an_event(code: str, *, begins: datetime, state: str = "active", **more) -> dict:
    stamp = begins.strftime("%d %b %Y %H:%M:%S GMT")
    return {"NotBefore": stamp, "Code": code, "EventId": "instance-event-1", "State": state, **more}


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
async def test_a_spot_interruption_is_read(action):
    metadata = Told()
    metadata.paths[SPOT] = json.dumps({"action": action, "time": "2026-01-01T12:02:00Z"})
    notice = await Notices(metadata, FakeClock()).spot()
    assert notice == Notice(action, datetime(2026, 1, 1, 12, 2, tzinfo=UTC), "spot")


@pytest.mark.parametrize("time", [None, "soon", 17])
async def test_an_interruption_without_a_time_counts_all_the_same(time):
    metadata = Told()
    metadata.paths[SPOT] = json.dumps({"action": "stop", "time": time})
    assert await Notices(metadata, FakeClock()).spot() == Notice("stop", None, "spot")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"action": "reboot"}', "action 'reboot': expected one of hibernate, stop, terminate"),
        ('{"action": ["stop"]}', "action \"['stop']\": expected one of"),
        ("{}", "action 'None'"),
        ("[]", "expected a JSON object, found list"),
        ("terminate", "expected JSON"),
    ],
)
async def test_other_announcements_are_ignored_and_named_once(text, problem):
    metadata = Told()
    metadata.paths[SPOT] = text
    notices = Notices(metadata, FakeClock())
    with capture_logs() as logs:
        assert [await notices.spot() for _ in range(3)] == [None] * 3
    (entry,) = logs
    assert (entry["event"], entry["source"]) == ("notice.ignored", "spot")
    assert entry["problem"].startswith(problem)


@pytest.mark.parametrize(
    ("code", "action"), [("instance-retirement", "terminate"), ("instance-stop", "stop")]
)
async def test_a_scheduled_end_counts_when_it_is_near(code, action):
    begins = NOON + timedelta(hours=1)
    metadata, clock = Told(), FakeClock()
    metadata.paths[SCHEDULED] = json.dumps([an_event(code, begins=begins)])
    notices = Notices(metadata, clock, lead=timedelta(minutes=15))
    assert await notices.scheduled() is None
    clock.set(begins - timedelta(minutes=15))
    assert await notices.scheduled() == Notice(action, begins, "scheduled")


async def test_of_several_scheduled_ends_the_soonest_counts():
    late, soon = NOON + timedelta(minutes=9), NOON + timedelta(minutes=3)
    metadata = Told()
    metadata.paths[SCHEDULED] = json.dumps(
        [an_event("instance-stop", begins=late), an_event("instance-retirement", begins=soon)]
    )
    assert await Notices(metadata, FakeClock()).scheduled() == Notice("terminate", soon, "scheduled")


async def test_events_that_let_the_instance_live_are_nothing():
    metadata = Told()
    metadata.paths[SCHEDULED] = json.dumps(
        [
            an_event("system-reboot", begins=NOON),
            an_event("instance-reboot", begins=NOON),
            an_event("system-maintenance", begins=NOON),
            an_event("instance-retirement", begins=NOON, state="completed"),
            an_event("instance-stop", begins=NOON, state="canceled"),
        ]
    )
    with capture_logs() as logs:
        assert await Notices(metadata, FakeClock()).scheduled() is None
    assert logs == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"Code": 1}', "expected a JSON list, found dict"),
        ("[7]", "expected a JSON object, found int"),
        ("nothing", "expected JSON"),
        ('[{"Code": "instance-stop", "State": "active", "NotBefore": "soon"}]', "instance-stop: NotBefore"),
        ('[{"Code": "instance-stop", "State": "active"}]', "instance-stop: NotBefore"),
    ],
)
async def test_scheduled_events_that_are_not_understood_are_named_once(text, problem):
    metadata = Told()
    metadata.paths[SCHEDULED] = text
    notices = Notices(metadata, FakeClock())
    with capture_logs() as logs:
        assert [await notices.scheduled() for _ in range(2)] == [None, None]
    (entry,) = logs
    assert (entry["event"], entry["source"]) == ("notice.ignored", "scheduled")
    assert entry["problem"].startswith(problem)


def test_spot_is_looked_at_each_second_and_scheduled_events_each_minute(jumping):
    metadata = Told(jumping.loop)

    async def story() -> Notice:
        loop = asyncio.get_running_loop()
        document = json.dumps({"action": "terminate", "time": "2026-01-01T12:05:00Z"})
        loop.call_later(150.5, metadata.paths.__setitem__, SPOT, document)
        return await watch_spot(metadata, jumping.clock)

    assert jumping.run(story()).action == "terminate"
    assert metadata.times(SPOT) == [float(second) for second in range(152)]
    assert metadata.times(SCHEDULED) == [0.0, 60.0, 120.0]


def test_a_scheduled_end_is_noticed_a_quarter_of_an_hour_before(jumping):
    metadata = Told(jumping.loop)
    begins = jumping.clock.now() + timedelta(hours=2)
    metadata.paths[SCHEDULED] = json.dumps([an_event("instance-retirement", begins=begins)])

    async def story() -> Notice:
        return await watch_spot(metadata, jumping.clock, Watching(spot=5.0))

    assert jumping.run(story()) == Notice("terminate", begins, "scheduled")
    left = begins - jumping.clock.now()
    assert timedelta(minutes=14) <= left <= timedelta(minutes=15)


async def test_watching_goes_on_through_trouble_and_ends_with_the_notice():
    with InstanceMetadataStandIn() as service:
        metadata = InstanceMetadata(service.url)
        asyncio.get_running_loop().call_later(0.05, service.interrupt)
        async with asyncio.timeout(5):
            notice = await watch_spot(metadata, FakeClock(), Watching(spot=0.01, scheduled=0.03))
        assert (notice.action, notice.source) == ("terminate", "spot")
        assert notice.at is not None
        await metadata.aclose()


# --- warm pools


def test_a_warm_instance_waits_for_days_until_it_is_wanted(jumping):
    metadata = Told(jumping.loop)
    busy = MetadataUnavailable("busy", status=503)
    throttled = MetadataUnavailable("slow down", status=429)
    metadata.paths[LIFECYCLE] = [
        None,
        None,
        "Warmed:Stopped",
        busy,
        throttled,
        *["Warmed:Stopped"] * 5000,
        "InService",
    ]

    async def story() -> None:
        await in_service(metadata)

    with capture_logs() as logs:
        jumping.run(story())
    assert metadata.times(LIFECYCLE)[:3] == [0.0, 60.0, 120.0]
    assert jumping.loop.time() == pytest.approx(5005 * 60)
    assert [entry["event"] for entry in logs].count("service.awaited") == 1


def test_an_instance_of_no_group_is_refused_after_two_hours(jumping):
    metadata = Told(jumping.loop)

    async def story() -> None:
        await in_service(metadata)

    with pytest.raises(CannotStart, match="knows no state of an Auto Scaling group") as error:
        jumping.run(story())
    assert error.value.is_final
    assert len(metadata.times(LIFECYCLE)) == 121
    assert jumping.loop.time() == 7200


@pytest.mark.parametrize(
    "trouble",
    [MetadataUnavailable("no", status=403), MetadataUnavailable("nobody there", is_absent=True)],
)
async def test_a_refusal_ends_the_wait_for_good(trouble):
    metadata = Told()
    metadata.paths[LIFECYCLE] = trouble
    with pytest.raises(CannotStart, match=str(trouble)) as error:
        await in_service(metadata)
    assert error.value.is_final


async def test_an_instance_in_service_waits_for_nothing():
    with InstanceMetadataStandIn() as service:
        service.set(LIFECYCLE, "InService")
        metadata = InstanceMetadata(service.url)
        async with asyncio.timeout(2):
            await in_service(metadata)
        await metadata.aclose()

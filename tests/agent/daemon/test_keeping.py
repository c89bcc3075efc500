"""Who keeps the sockets: what is chosen, and what is so by itself."""

import pytest

from agent.adapters.host.notify import Notifier
from agent.daemon.keeping import keeper_choice
from agent.endpoints.health import HealthBoard
from agent.model.errors import CannotStart
from agent.settings import Settings
from agent.settings.supervision import Supervision
from tests.fakes.clock import FakeClock

NOBODY, UNIT = None, "/run/systemd/notify"


def choice(address, **variables):
    settings = Settings.load({"BERTH_ENV_FILE": "/dev/null", **variables})
    return keeper_choice(settings, Notifier(address, HealthBoard(FakeClock())))


@pytest.mark.parametrize(
    ("address", "in_container", "expected"),
    [
        (NOBODY, "false", "none"),
        (UNIT, "false", "systemd"),
        (NOBODY, "true", "container"),
        (UNIT, "true", "container"),
    ],
)
def test_by_itself_it_follows_how_the_agent_was_started(address, in_container, expected):
    assert choice(address, BERTH_IN_CONTAINER=in_container) == expected


@pytest.mark.parametrize("chosen", ["systemd", "container", "none"])
def test_what_is_chosen_is_taken(chosen):
    assert choice(UNIT, BERTH_SOCKET_KEEPER=chosen) == chosen


def test_systemd_without_systemd_is_an_error_that_says_what_to_do():
    with pytest.raises(CannotStart, match="there is no NOTIFY_SOCKET") as caught:
        choice(NOBODY, BERTH_SOCKET_KEEPER="systemd")
    assert caught.value.is_final


LISTEN = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "endpoint/lo/169.254.170.2/80:b"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (("endpoint/lo/169.254.170.2/80", 3), ("b", 4))),
        ({"LISTEN_PID": "8"}, ()),
        ({"LISTEN_FDS": "many"}, ()),
        ({"LISTEN_FDS": "-1"}, ()),
        ({"LISTEN_FDS": "0"}, ()),
        ({"LISTEN_FDNAMES": ""}, (("unknown", 3), ("unknown", 4))),
        ({"LISTEN_FDNAMES": "a"}, (("a", 3), ("unknown", 4))),
    ],
)
def test_what_systemd_hands_over_is_read_by_the_process_that_it_is_for(changed, expected):
    assert Supervision.of({**LISTEN, **changed}, 7).received == expected


def test_children_do_not_see_what_was_handed_over():
    environ = {**LISTEN, "PATH": "/bin"}
    assert len(Supervision.take(environ, 7).received) == 2
    assert environ == {"PATH": "/bin"}

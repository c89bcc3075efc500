"""The frame around a plugin's verbs."""

import json

import pytest

from cni_plugins.skeleton.errors import CniError, Terminated
from cni_plugins.skeleton.run import Answer, Call, Plugin, run

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/x",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/bin",
    "ECS_CNI_LOG_FILE": "",
}
CONFIG = b'{"cniVersion": "1.0.0", "name": "n", "type": "t"}'


def a_plugin(outcome: object) -> Plugin:
    def act(_: Call) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return Plugin("test", "", (), act, act, act, act, act)  # type: ignore[arg-type]


def answer(outcome: object, command: str = "ADD") -> Answer:
    return run(a_plugin(outcome), [], {**ENVIRONMENT, "CNI_COMMAND": command}, lambda: CONFIG)


@pytest.fixture(autouse=True)
def _keep_the_signal_handler():
    import signal

    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_result_is_one_line_of_json() -> None:
    assert answer({"dns": {}}) == Answer(0, '{"dns":{}}\n')


def test_del_prints_nothing() -> None:
    assert answer(None, "DEL") == Answer(0, "")


def test_a_refusal_is_an_error_object_with_its_code() -> None:
    refused = answer(CniError(11, "later", "in a while"))
    assert refused.exit == 1
    assert json.loads(refused.stdout) == {
        "cniVersion": "1.0.0",
        "code": 11,
        "msg": "later",
        "details": "in a while",
    }


def test_a13_a_bug_is_an_error_object_with_code_999_and_its_place() -> None:
    crashed = answer(ZeroDivisionError("oops"))
    document = json.loads(crashed.stdout)
    assert (crashed.exit, document["code"]) == (1, 999)
    assert document["msg"] == "internal error: ZeroDivisionError: oops"
    assert "test_run.py:" in document["details"]
    assert "Traceback" not in crashed.stdout


def test_a_termination_is_an_error_object_that_says_try_again() -> None:
    document = json.loads(answer(Terminated()).stdout)
    assert (document["code"], document["msg"]) == (11, "terminated by a signal")


def test_stdin_is_not_read_before_the_environment_is_right() -> None:
    def never() -> bytes:
        raise AssertionError

    refused = run(a_plugin({}), [], {"CNI_COMMAND": "ADD", "ECS_CNI_LOG_FILE": ""}, never)
    assert json.loads(refused.stdout)["code"] == 4

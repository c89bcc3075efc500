"""What plugins print is understood, and quoted when it is not."""

import pytest

from agent.adapters.cni.replies import (
    PluginBusy,
    PluginReply,
    PluginUnable,
    local_ipv4,
    read_result,
    require_success,
    supported_versions,
)
from agent.model.errors import CannotAttachNetwork


def refused(reply: PluginReply) -> CannotAttachNetwork:
    with pytest.raises(CannotAttachNetwork) as caught:
        require_success("ecs-eni", reply)
    return caught.value


def test_an_error_object_becomes_a_sentence_with_its_code_and_details():
    error = refused(
        PluginReply(1, '{"cniVersion":"1.0.0","code":7,"msg":"bad mac","details":"0e:zz"}', "noise")
    )
    assert str(error) == "ecs-eni: bad mac (code 7): 0e:zz"
    assert not isinstance(error, PluginBusy)


def test_try_again_later_is_an_error_of_its_own():
    error = refused(PluginReply(1, '{"code":11,"msg":"the lock is held"}', ""))
    assert isinstance(error, PluginBusy)
    assert str(error) == "ecs-eni: the lock is held (code 11)"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            PluginReply(3, "panic!\nat line 1", "trace\nends here"),
            r"ecs-eni: ended with status 3 and no CNI error, printed 'panic!\nat line 1' and complained 'trace\nends here'",
        ),
        (PluginReply(1, "", ""), "ecs-eni: ended with status 1 and no CNI error, printed nothing"),
        (PluginReply(-9, "", ""), "ecs-eni: was killed by SIGKILL, printed nothing"),
        (PluginReply(-63, "", ""), "ecs-eni: was killed by signal 63, printed nothing"),
        (
            PluginReply(1, '{"code":"7","msg":"x"}', ""),
            "ecs-eni: ended with status 1 and no CNI error, printed",
        ),
        (PluginReply(1, "[" * 100_000, ""), "ecs-eni: ended with status 1 and no CNI error, printed '[[["),
    ],
)
def test_an_end_without_error_object_is_described(reply, text):
    assert str(refused(reply)).startswith(text)


def test_a_long_text_is_quoted_by_its_beginning_and_a_long_complaint_by_its_end():
    text = str(refused(PluginReply(1, "a" * 5000, "b" * 5000 + "the cause")))
    assert len(text) < 600
    assert "aaa…'" in text
    assert "bthe cause'" in text


@pytest.mark.parametrize("stdout", ["", "hello", "[]", "null", '{"cniVersion":"1.0.0"} trailing'])
def test_a_success_without_a_result_is_refused(stdout):
    with pytest.raises(CannotAttachNetwork, match=r"ecs-eni: expected a CNI result"):
        read_result("ecs-eni", PluginReply(0, stdout, ""))


def test_the_first_ipv4_address_is_the_local_one():
    result = {
        "ips": [{"address": "fd00::2/64"}, {"address": "169.254.172.9/22"}, {"address": "169.254.172.10/22"}]
    }
    assert local_ipv4("ecs-bridge", result) == "169.254.172.9"


@pytest.mark.parametrize(
    "ips", [None, [], {}, "x", [None], [{}], [{"address": 5}], [{"address": ""}], [{"address": "fd00::2/64"}]]
)
def test_a_result_without_an_ipv4_address_is_refused(ips):
    with pytest.raises(CannotAttachNetwork, match="ecs-bridge: its result has no IPv4 address: ips is"):
        local_ipv4("ecs-bridge", {"ips": ips})


@pytest.mark.parametrize("code", [1, 4])
def test_a_verb_or_dialect_that_is_not_known_is_an_error_of_its_own(code):
    assert isinstance(refused(PluginReply(1, f'{{"code":{code},"msg":"no GC"}}', "")), PluginUnable)


@pytest.mark.parametrize(
    ("reply", "versions"),
    [
        (PluginReply(0, '{"supportedVersions":["1.0.0","1.1.0"]}', ""), {"1.0.0", "1.1.0"}),
        (PluginReply(0, '{"supportedVersions":["1.1.0",7]}', ""), {"1.1.0"}),
        (PluginReply(1, '{"supportedVersions":["1.1.0"]}', ""), set()),
        (PluginReply(0, '{"supportedVersions":"1.1.0"}', ""), set()),
        (PluginReply(0, "1.1.0", ""), set()),
    ],
)
def test_the_dialects_of_a_plugin_are_those_that_it_lists(reply, versions):
    assert supported_versions(reply) == versions

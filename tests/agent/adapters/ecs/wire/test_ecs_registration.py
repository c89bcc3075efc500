import pytest

from agent.adapters.ecs.wire.capabilities import Attribute
from agent.adapters.ecs.wire.registration import (
    AttributesNotEchoed,
    InstanceFacts,
    ReservedTooMuch,
    UnusableAnswer,
    attributes,
    availability_zone,
    check_echo,
    container_instance,
    instance_arn,
    merged_tags,
    registration,
)

ARN = "arn:aws:ecs:us-west-2:111122223333:container-instance/fk-cluster/38132122dde54023aba545490dce0b39"
TASK_ENI = Attribute("ecs.capability.task-eni")
CNI = Attribute("ecs.capability.cni-plugin-version", "-")


def facts(**changes):
    given = {
        "cluster": "fk-cluster", "client_token": "40f30c03-e718-4854-85c3-fce88673d002", "cpu_units": 2048,
        "total_memory": 24105, "identity_document": '{\n  "accountId": "111122223333"}',
        "identity_signature": "Zmstc2lnbmF0dXJl", "vpc_id": "vpc-0fk00000000000001",
        "subnet_id": "subnet-0fk00000000000001",
    }  # fmt: skip
    return InstanceFacts(**{**given, **changes})


def body(**changes):
    made = facts(**changes)
    return registration(made, attributes(made, (TASK_ENI, CNI)))


RECORDED = {
    "attributes": [
        {"name": "ecs.capability.task-eni"},
        {"name": "ecs.capability.cni-plugin-version", "value": "-"},
        {"name": "ecs.vpc-id", "value": "vpc-0fk00000000000001"},
        {"name": "ecs.subnet-id", "value": "subnet-0fk00000000000001"},
        {"name": "ecs.os-type", "value": "linux"},
        {"name": "ecs.os-family", "value": "LINUX"},
        {"name": "ecs.os-type-detailed", "value": "LINUX"},
    ],
    "clientToken": "40f30c03-e718-4854-85c3-fce88673d002",
    "cluster": "fk-cluster",
    "instanceIdentityDocument": '{\n  "accountId": "111122223333"}',
    "instanceIdentityDocumentSignature": "Zmstc2lnbmF0dXJl",
    "totalResources": [
        {"integerValue": 2048, "name": "CPU", "type": "INTEGER"},
        {"integerValue": 24105, "name": "MEMORY", "type": "INTEGER"},
        {"name": "PORTS", "stringSetValue": ["22", "2375", "2376", "51678", "51679"], "type": "STRINGSET"},
        {"name": "PORTS_UDP", "stringSetValue": [], "type": "STRINGSET"},
    ],
}


def test_the_first_registration_is_like_the_recorded_one() -> None:
    assert body() == RECORDED


def test_registering_again_adds_the_arn() -> None:
    assert body(earlier_arn=ARN) == {**RECORDED, "containerInstanceArn": ARN}


def test_what_cannot_be_had_of_the_identity_is_sent_empty() -> None:
    made = body(identity_document="", identity_signature="")
    assert (made["instanceIdentityDocument"], made["instanceIdentityDocumentSignature"]) == ("", "")


def test_attributes_of_ones_own_are_sent_the_first_time_only() -> None:
    rack = {"name": "rack", "value": "7"}
    assert rack in body(custom_attributes={"rack": "7"})["attributes"]
    assert rack not in body(custom_attributes={"rack": "7"}, earlier_arn=ARN)["attributes"]


def test_what_is_unknown_of_the_place_is_left_out() -> None:
    names = {
        one["name"] for one in body(vpc_id="", subnet_id="", outpost_arn="arn:aws:outposts:x")["attributes"]
    }
    assert {"ecs.vpc-id", "ecs.subnet-id"}.isdisjoint(names)
    assert "ecs.outpost-arn" in names


@pytest.mark.parametrize(("detailed", "said"), [("debian_12", "debian_12"), ("", "LINUX")])
def test_the_system_is_named(detailed, said) -> None:
    assert {"name": "ecs.os-type-detailed", "value": said} in body(detailed_os=detailed)["attributes"]


def test_reserved_memory_and_ports_are_taken_off_and_told() -> None:
    cpu, memory, tcp, udp = body(reserved_memory=105, reserved_tcp_ports=(22, 80), reserved_udp_ports=(53,))[
        "totalResources"
    ]
    assert (cpu["integerValue"], memory["integerValue"]) == (2048, 24000)
    assert (tcp["stringSetValue"], udp["stringSetValue"]) == (["22", "80"], ["53"])
    assert body(reserved_memory=24105)["totalResources"][1]["integerValue"] == 0


def test_more_reserved_than_there_is_is_said_in_the_agents_words() -> None:
    with pytest.raises(ReservedTooMuch) as error:
        body(total_memory=1000, reserved_memory=1001)
    assert str(error.value) == (
        "api register-container-instance: reserved memory is higher than available memory on the host, "
        "total memory: 1000, reserved: 1001"
    )


class TestTags:
    def test_none_are_left_out(self) -> None:
        assert "tags" not in body()
        assert "tags" not in body(tags={"aws:x": "y"})

    def test_local_ones_win_and_come_first(self) -> None:
        tags = body(tags={"b": "local"}, instance_tags={"a": "ec2", "b": "ec2"})["tags"]
        assert tags == [{"key": "b", "value": "local"}, {"key": "a", "value": "ec2"}]

    @pytest.mark.parametrize("prefix", ["aws:", "AWS:", "Aws:"])
    def test_those_that_aws_reserves_are_dropped(self, prefix) -> None:
        given = {f"{prefix}k": "v", "k": f"{prefix}v", "awsome": "aws", "": ""}
        assert merged_tags(given, given) == {"awsome": "aws", "": ""}

    def test_fifty_at_most_of_the_machines_first_the_local_ones(self) -> None:
        local = {f"l{number}": "" for number in range(30)}
        instance = {f"i{number}": "" for number in range(30)}
        merged = merged_tags(local, instance)
        assert len(merged) == 50
        assert local.keys() <= merged.keys()


class TestAnswer:
    SENT = (TASK_ENI, CNI, Attribute("rack", ""))
    ECHO = (
        {"name": "ecs.capability.task-eni"},
        {"name": "ecs.capability.cni-plugin-version", "value": "-"},
        {"name": "rack", "value": None},
        {"name": "ecs.availability-zone", "value": "us-west-2a"},
    )

    def test_what_came_back_is_fine(self) -> None:
        answer = {"containerInstance": {"containerInstanceArn": ARN, "attributes": list(self.ECHO)}}
        check_echo(self.SENT, container_instance(answer))
        assert instance_arn(answer) == ARN
        assert availability_zone(answer) == "us-west-2a"

    @pytest.mark.parametrize(
        ("echo", "problem"),
        [
            (ECHO[1:], "ecs.capability.task-eni is missing"),
            (
                ({"name": "ecs.capability.task-eni", "value": "x"}, *ECHO[1:]),
                "ecs.capability.task-eni is 'x', expected ''",
            ),
            ((ECHO[0], ECHO[2]), "ecs.capability.cni-plugin-version is missing"),
            (
                (),
                "ecs.capability.task-eni is missing; ecs.capability.cni-plugin-version is missing; rack is missing",
            ),
            (None, "ecs.capability.task-eni is missing"),
            ("odd", "ecs.capability.task-eni is missing"),
        ],
    )
    def test_what_did_not_is_named(self, echo, problem) -> None:
        instance = {"attributes": list(echo) if isinstance(echo, tuple) else echo}
        with pytest.raises(AttributesNotEchoed, match=r"^Attribute validation failed: ") as error:
            check_echo(self.SENT, instance)
        assert problem in str(error.value)

    @pytest.mark.parametrize("instance", [{}, {"containerInstanceArn": ""}, {"containerInstanceArn": 7}])
    def test_without_an_arn_it_is_of_no_use(self, instance) -> None:
        with pytest.raises(UnusableAnswer, match="containerInstanceArn"):
            instance_arn({"containerInstance": instance})

    def test_without_a_zone_it_is_unknown(self) -> None:
        assert availability_zone({"containerInstance": {}}) == ""


def test_what_proves_the_identity_does_not_show() -> None:
    shown = repr(facts())
    assert "Zmstc2lnbmF0dXJl" not in shown
    assert "accountId" not in shown
    assert "40f30c03" not in shown

"""Registration over hours, with an API that answers as told; and once over real HTTP."""

import asyncio
import itertools

import pytest

from agent.adapters.ecs.api import ApiRefused, ApiUnreachable
from agent.adapters.ecs.registering import Registered, register
from agent.adapters.ecs.wire.capabilities import Abilities, capabilities
from agent.adapters.ecs.wire.registration import InstanceFacts
from agent.model.errors import CannotStart
from tests.agent.adapters.ecs.ecs_server import staged

ARN = "arn:aws:ecs:us-west-2:111122223333:container-instance/fk-cluster/38132122dde54023aba545490dce0b39"
CAPABILITIES = capabilities(Abilities((1, 24), (1, 41), cni_version="eb1fbff-0.1.0"))
UNREACHABLE = ApiUnreachable("cannot connect")
THROTTLED = ApiRefused("ThrottlingException", "slow down", 400)


def facts(**changes):
    given = {"cluster": "fk-cluster", "client_token": "12cbbbe7", "cpu_units": 2048, "total_memory": 24105}
    return InstanceFacts(**{**given, **changes})


def accepted(body):
    zone = {"name": "ecs.availability-zone", "value": "us-west-2a"}
    return {"containerInstance": {"containerInstanceArn": ARN, "attributes": [*body["attributes"], zone]}}


class Told:
    """``answers``: exceptions, documents, or functions of the body, in turn; the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    async def call(self, operation, body, *, attempts=3):
        self.calls.append((asyncio.get_running_loop().time(), operation, body, attempts))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(body) if callable(answer) else answer


def told(jumping, api, **changes):
    return jumping.run(register(api, facts(**changes), CAPABILITIES))


def refused(jumping, api, **changes):
    with pytest.raises(CannotStart) as caught:
        told(jumping, api, **changes)
    return caught.value


def test_an_instance_is_registered_at_once(jumping) -> None:
    api = Told(accepted)
    assert told(jumping, api) == Registered(ARN, "us-west-2a")
    assert [(at, operation, attempts) for at, operation, _, attempts in api.calls] == [
        (0, "RegisterContainerInstance", 3)
    ]
    assert "containerInstanceArn" not in api.calls[0][2]


def test_an_instance_is_registered_again_with_its_arn(jumping) -> None:
    api = Told(accepted)
    told(jumping, api, earlier_arn=ARN)
    assert api.calls[0][2]["containerInstanceArn"] == ARN


@pytest.mark.parametrize("code", ["ThrottlingException", "ServerException", "LimitExceededException"])
@pytest.mark.parametrize("arn", [None, ARN])
def test_what_may_pass_is_waited_for_ever_longer(jumping, code, arn) -> None:
    api = Told(*[ApiRefused(code, "m", 400)] * 10, accepted)
    assert told(jumping, api, earlier_arn=arn).arn == ARN
    times = [call[0] for call in api.calls]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert (
        len({repr(call[2]) for call in api.calls}) == 1
    )  # the same token: the API knows it is the same request
    for pause, least in zip(pauses, [3, 6, 12, 24, 48, 96, 192, 192, 192, 192], strict=True):
        assert least <= pause <= least * 1.2


@pytest.mark.parametrize("arn", [None, ARN])
def test_after_an_hour_a_restart_is_better(jumping, arn) -> None:
    api = Told(THROTTLED)
    error = refused(jumping, api, earlier_arn=arn)
    assert not error.is_final
    assert (
        str(error) == "cannot register in cluster fk-cluster: Amazon ECS said ThrottlingException: slow down"
    )
    assert 3600 - 192 * 1.2 <= api.calls[-1][0] <= 3600


@pytest.mark.parametrize("problem", [UNREACHABLE, ApiRefused("InternalFailure", "m", 500)])
def test_an_api_out_of_reach_is_waited_for_only_by_those_who_have_tasks(jumping, problem) -> None:
    again = Told(*[problem] * 8, accepted)
    assert told(jumping, again, earlier_arn=ARN).arn == ARN
    first = Told(problem, accepted)
    assert not refused(jumping, first).is_final
    assert len(first.calls) == 1


@pytest.mark.parametrize("code", ["InvalidParameterException", "ClientException"])
@pytest.mark.parametrize("arn", [None, ARN])
def test_what_will_be_wrong_the_next_time_is_final(jumping, code, arn) -> None:
    api = Told(ApiRefused(code, "no such thing", 400), accepted)
    error = refused(jumping, api, earlier_arn=arn)
    assert error.is_final
    assert "no such thing" in str(error)
    assert len(api.calls) == 1


def test_another_instance_type_is_final_and_says_what_to_do(jumping) -> None:
    said = ApiRefused(
        "SomeException", "Container instance type changes are not supported. Container instance x", 400
    )
    error = refused(jumping, Told(said), earlier_arn=ARN)
    assert error.is_final
    assert "restore the old instance type, or remove the agent's saved state" in str(error)


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "UnrecognizedClientException", "ClusterNotFoundException"]
)
def test_every_other_refusal_may_be_gone_after_a_restart(jumping, code) -> None:
    api = Told(ApiRefused(code, "m", 400), accepted)
    assert not refused(jumping, api).is_final
    assert len(api.calls) == 1


def test_attributes_that_do_not_come_back_are_final(jumping) -> None:
    def without(body):
        return {"containerInstance": {"containerInstanceArn": ARN, "attributes": body["attributes"][1:]}}

    for arn in (None, ARN):
        error = refused(jumping, Told(without), earlier_arn=arn)
        assert error.is_final
        assert str(error).startswith("Attribute validation failed: ")
        assert "private-registry-authentication.secretsmanager is missing" in str(error)


@pytest.mark.parametrize("answer", [{}, {"containerInstance": []}])
def test_an_answer_without_an_instance_may_be_better_after_a_restart(jumping, answer) -> None:
    error = refused(jumping, Told(answer))
    assert not error.is_final
    assert "no containerInstance" in str(error)


def test_more_memory_reserved_than_there_is_is_final_and_nothing_is_sent(jumping) -> None:
    api = Told(accepted)
    error = refused(jumping, api, total_memory=1000, reserved_memory=1001)
    assert error.is_final
    assert api.calls == []


class TestDefaultCluster:
    MISSING = ApiRefused("ClusterNotFoundException", "Cluster not found.", 400)

    def test_it_is_created_once_and_joined(self, jumping) -> None:
        api = Told(self.MISSING, {"cluster": {"clusterName": "default"}}, accepted)
        assert told(jumping, api, cluster="default") == Registered(ARN, "us-west-2a")
        names = [(operation, body.get("cluster")) for _, operation, body, _ in api.calls]
        assert names == [
            ("RegisterContainerInstance", "default"), ("CreateCluster", None), ("RegisterContainerInstance", "default"),
        ]  # fmt: skip
        assert api.calls[1][2] == {"clusterName": "default"}

    def test_the_message_alone_is_enough(self, jumping) -> None:
        said = ApiRefused("ClientException", "Oh. Cluster not found.", 400)
        api = Told(said, {"cluster": {"clusterName": "default"}}, accepted)
        assert told(jumping, api, cluster="default").arn == ARN

    def test_a_cluster_that_stays_missing_is_not_created_again(self, jumping) -> None:
        api = Told(self.MISSING, {"cluster": {"clusterName": "default"}}, self.MISSING)
        assert not refused(jumping, api, cluster="default").is_final
        assert len(api.calls) == 3

    def test_another_cluster_is_never_created(self, jumping) -> None:
        api = Told(self.MISSING)
        refused(jumping, api)
        refused(jumping, api, cluster="default", earlier_arn=ARN)
        assert {call[1] for call in api.calls} == {"RegisterContainerInstance"}

    def test_an_answer_without_a_name_is_told(self, jumping) -> None:
        error = refused(jumping, Told(self.MISSING, {"cluster": {}}), cluster="default")
        assert not error.is_final
        assert "CreateCluster" in str(error)


async def test_over_real_http() -> None:
    async with staged() as stage:

        async def answer(_):
            return stage.server.json(200, accepted(stage.server.got[-1].body))

        stage.server.answers = [answer]
        assert await register(stage.api, facts(), CAPABILITIES) == Registered(ARN, "us-west-2a")
        assert stage.server.got[0].headers["X-Amz-Target"].endswith(".RegisterContainerInstance")

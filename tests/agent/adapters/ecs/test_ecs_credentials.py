"""Delivered credentials: only the right ones, only valid ones, only in memory."""

from datetime import timedelta

import pytest

from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.wire.messages import RoleCredentials
from agent.model.errors import CredentialsUnavailable
from agent.model.ids import CredentialsId, RoleArn
from agent.model.spec import TaskRole
from tests.builders import task_arn
from tests.fakes.clock import FakeClock

ROLE = TaskRole(RoleArn("arn:aws:iam::111122223333:role/app"), CredentialsId("one"))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def delivered(clock):
    return DeliveredCredentials(clock)


def some(clock, credentials_id="one", *, seconds=3600, key="EXAMPLEKEYID1"):
    expires_at = clock.now() + timedelta(seconds=seconds)
    return RoleCredentials(
        credentials_id=credentials_id,
        role_arn=ROLE.arn,
        access_key_id=key,
        secret_access_key="fake-secret-canary",
        session_token="fake-token-canary",
        expiration=f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
        expires_at=expires_at,
    )


async def test_what_was_delivered_is_given(delivered, clock):
    delivered.put(task_arn(), some(clock))
    given = await delivered.for_role(ROLE, task_arn())
    assert (given.access_key_id, given.role_arn) == ("EXAMPLEKEYID1", ROLE.arn)


async def test_what_was_not_delivered_yet_may_come(delivered):
    with pytest.raises(CredentialsUnavailable, match="has not delivered"):
        await delivered.for_role(ROLE, task_arn())


async def test_newer_ones_take_the_place_of_older_ones(delivered, clock):
    delivered.put(task_arn(), some(clock))
    delivered.put(task_arn(), some(clock, key="EXAMPLEKEYID2"))
    assert (await delivered.for_role(ROLE, task_arn())).access_key_id == "EXAMPLEKEYID2"


async def test_expired_ones_are_never_given(delivered, clock):
    delivered.put(task_arn(), some(clock, seconds=10))
    clock.advance(10)
    with pytest.raises(CredentialsUnavailable, match="expired at"):
        await delivered.for_role(ROLE, task_arn())


async def test_another_task_does_not_get_them(delivered, clock):
    delivered.put(task_arn(), some(clock))
    with pytest.raises(CredentialsUnavailable):
        await delivered.for_role(ROLE, task_arn(2))


async def test_a_new_id_of_the_cluster_serves_the_containers_that_know_the_old_one(delivered, clock):
    delivered.put(task_arn(), some(clock))
    delivered.put(task_arn(), some(clock, "two", key="EXAMPLEKEYID2"), known_as="one")
    assert (await delivered.for_role(ROLE, task_arn())).access_key_id == "EXAMPLEKEYID2"


async def test_a_task_that_has_stopped_leaves_nothing(delivered, clock):
    delivered.put(task_arn(), some(clock))
    delivered.put(task_arn(2), some(clock, "two"))
    await delivered.forget(task_arn())
    with pytest.raises(CredentialsUnavailable):
        await delivered.for_role(ROLE, task_arn())
    other = TaskRole(ROLE.arn, CredentialsId("two"))
    assert (await delivered.for_role(other, task_arn(2))).access_key_id == "EXAMPLEKEYID1"


def test_nothing_of_it_shows(clock):
    assert "canary" not in repr(some(clock))

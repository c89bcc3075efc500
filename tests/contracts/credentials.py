"""What every ``CredentialsProvider`` and ``RegistryLogins`` must do. Run for the fakes and each adapter."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from agent.model.credentials import RegistryLogin
from agent.model.ids import CredentialsId, RoleArn, TaskArn
from agent.model.spec import ContainerSpec, TaskRole
from agent.ports.credentials import CredentialsProvider, RegistryLogins
from tests.builders import a_container, a_spec
from tests.fakes.clock import FakeClock


class CredentialsStage(Protocol):
    """What a test of the contract needs beside the port."""

    provider: CredentialsProvider
    clock: FakeClock


def a_role(number: int = 1) -> TaskRole:
    return TaskRole(RoleArn(f"arn:aws:iam::123456789012:role/role-{number}"), CredentialsId(f"id-{number}"))


def an_arn(number: int = 1) -> TaskArn:
    return TaskArn(f"arn:aws:ecs:us-west-2:123456789012:task/default/{number:032x}")


class CredentialsContract:
    """Subclass it with a fixture ``stage``."""

    async def test_credentials_are_of_the_role_and_valid(self, stage: CredentialsStage) -> None:
        credentials = await stage.provider.for_role(a_role(), an_arn())
        assert credentials.role_arn == a_role().arn
        assert credentials.access_key_id
        assert credentials.secret_access_key
        assert credentials.token
        assert credentials.expires_at.tzinfo is not None
        assert credentials.expires_at > stage.clock.now()

    async def test_asking_again_soon_gives_the_same(self, stage: CredentialsStage) -> None:
        first = await stage.provider.for_role(a_role(), an_arn())
        stage.clock.advance(60)
        assert await stage.provider.for_role(a_role(), an_arn()) == first

    async def test_roles_and_tasks_do_not_share(self, stage: CredentialsStage) -> None:
        all_of_them = [
            await stage.provider.for_role(a_role(role), an_arn(task)) for role in (1, 2) for task in (1, 2)
        ]
        assert len({credentials.token for credentials in all_of_them}) == len(all_of_them)

    async def test_expired_credentials_are_never_given(self, stage: CredentialsStage) -> None:
        old = await stage.provider.for_role(a_role(), an_arn())
        stage.clock.set(old.expires_at + timedelta(seconds=1))
        fresh = await stage.provider.for_role(a_role(), an_arn())
        assert fresh.expires_at > stage.clock.now()
        assert fresh.token != old.token

    async def test_a_caller_that_goes_away_takes_nothing_from_the_others(
        self, stage: CredentialsStage
    ) -> None:
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(stage.provider.for_role(a_role(), an_arn())) for _ in range(5)]
            await asyncio.sleep(0)
            callers[0].cancel()
        got = {caller.result().token for caller in callers[1:]}
        assert len(got) == 1

    async def test_what_was_forgotten_is_made_anew(self, stage: CredentialsStage) -> None:
        old = await stage.provider.for_role(a_role(), an_arn())
        other = await stage.provider.for_role(a_role(), an_arn(2))
        await stage.provider.forget(an_arn())
        stage.clock.advance(1)
        assert (await stage.provider.for_role(a_role(), an_arn())).token != old.token
        assert await stage.provider.for_role(a_role(), an_arn(2)) == other

    async def test_forgetting_an_unknown_task_is_fine(self, stage: CredentialsStage) -> None:
        await stage.provider.forget(an_arn(99))

    async def test_secrets_do_not_show_when_printed(self, stage: CredentialsStage) -> None:
        credentials = await stage.provider.for_role(a_role(), an_arn())
        for text in (repr(credentials), str(credentials), f"{credentials}"):
            assert credentials.secret_access_key not in text
            assert credentials.token not in text
            assert credentials.access_key_id not in text


def a_container_of(image: str) -> ContainerSpec:
    return replace(a_container(), image=image)


class LoginsStage(Protocol):
    """``known``: an image to which there is a login, and that login."""

    logins: RegistryLogins
    known: tuple[ContainerSpec, RegistryLogin]


class LoginsContract:
    """Subclass it with a fixture ``stage``."""

    async def test_a_known_registry_has_its_login(self, stage: LoginsStage) -> None:
        container, login = stage.known
        assert await stage.logins.login(a_spec(container), container) == login

    async def test_an_unknown_registry_needs_no_login(self, stage: LoginsStage) -> None:
        for image in ("busybox:1", "example.com/web", "127.0.0.1:5000/web"):
            container = a_container_of(image)
            assert await stage.logins.login(a_spec(container), container) is None

    async def test_a_caller_that_goes_away_takes_nothing_from_the_others(self, stage: LoginsStage) -> None:
        container, login = stage.known
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(stage.logins.login(a_spec(container), container)) for _ in range(5)]
            await asyncio.sleep(0)
            callers[0].cancel()
        assert {caller.result() for caller in callers[1:]} == {login}

    async def test_passwords_do_not_show_when_printed(self, stage: LoginsStage) -> None:
        container, _ = stage.known
        login = await stage.logins.login(a_spec(container), container)
        assert login is not None
        for text in (repr(login), str(login), repr(stage.logins)):
            assert login.password not in text

from dataclasses import replace

import pytest

from agent.endpoints.naming import NotOneTask, find_by_docker_id, find_task
from agent.model.ids import ContainerId, TaskArn
from tests.agent.endpoints.asking import a_task


def task_with_id(task_id):
    task = a_task(1)
    arn = TaskArn(f"arn:aws:ecs:us-west-2:123456789012:task/default/{task_id}")
    return replace(task, spec=replace(task.spec, arn=arn))


FIRST, SECOND = task_with_id("abcd1111" + "0" * 24), task_with_id("abcd2222" + "0" * 24)
TASKS = (FIRST, SECOND)


@pytest.mark.parametrize("name", [FIRST.arn, FIRST.task_id, "abcd1", "abcd1111"])
def test_a_task_is_found_by_arn_id_and_beginning(name):
    assert find_task(TASKS, name) is FIRST


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("", 400, "missing"),
        ("abc", 400, "too short"),
        ("abcd", 400, f"{FIRST.task_id}, {SECOND.task_id}"),
        ("ffff", 404, "not known"),
    ],
)
def test_what_is_not_one_task_is_said(name, status, words):
    found = find_task(TASKS, name)
    assert isinstance(found, NotOneTask)
    assert found.status == status
    assert words in found.message


def with_container(task, container_id):
    return replace(task, containers=(replace(task.containers[0], container_id=ContainerId(container_id)),))


def test_a_docker_id_is_whole_or_a_short_beginning():
    tasks = (with_container(FIRST, "aa" * 32), with_container(SECOND, "ab" * 32))
    assert find_by_docker_id(tasks, "aaa") is tasks[0]
    assert find_by_docker_id(tasks, "ab" * 32) is tasks[1]
    assert find_by_docker_id(tasks, "ab" * 10) == NotOneTask(404, f"no container has the id {'ab' * 10!r}")
    ambiguous = find_by_docker_id(tasks, "a")
    assert isinstance(ambiguous, NotOneTask)
    assert ambiguous.status == 400

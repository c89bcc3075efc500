"""Volumes and control groups that carry this agent's marks and belong to no task that it knows."""

from collections.abc import Mapping
from typing import Any

import structlog
from docker import APIClient
from docker.errors import APIError

from agent.adapters.docker.calls import CONFLICT, remove_volume
from agent.adapters.docker.cgroups import TaskGroups
from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.translate import TASK_LABEL, own_filter
from agent.model.errors import CannotRemoveContainer
from agent.model.ids import TaskArn, TaskId, task_id

log = structlog.get_logger()


class Leftovers:
    """Finds and removes them. A task that is being made here is never a leftover, known or not."""

    def __init__(self, connection: Connection, settings: DockerSettings) -> None:
        self._connection = connection
        self._filter = own_filter(settings)
        self._limits = settings.limits
        self._protected: set[TaskId] = set()

    def protect(self, task: TaskId) -> None:
        """Something is about to be made for the task: whoever asked may have counted its tasks before."""
        self._protected.add(task)

    def release(self, task: TaskId) -> None:
        """Everything of the task has been removed."""
        self._protected.discard(task)

    async def find(self, known: frozenset[TaskId], groups: TaskGroups) -> tuple[str, ...]:
        """Their names: those of volumes, and control groups as Docker is told them. Sorted."""
        kept = known | self._protected

        def look(client: APIClient) -> tuple[str, ...]:
            return tuple(sorted([*_volumes(client, self._filter, kept), *_groups(groups, kept).values()]))

        return await self._connection.call(Lane.LIST, look, limit=self._limits.list, transition="listing")

    async def remove(self, known: frozenset[TaskId], groups: TaskGroups) -> tuple[str, ...]:
        """Remove what nothing uses; the names of what was removed. Sorted."""
        kept = known | self._protected

        def clear(client: APIClient) -> tuple[str, ...]:
            removed = [each for each in _volumes(client, self._filter, kept) if _is_removed(client, each)]
            for task, name in _groups(groups, kept).items():
                try:
                    groups.remove(task)
                except CannotRemoveContainer as error:
                    log.info("leftover.kept", name=name, reason=str(error))
                else:
                    removed.append(name)
            return tuple(sorted(removed))

        return await self._connection.call(Lane.LIST, clear, limit=self._limits.list, transition="removing")


def _volumes(client: APIClient, labels: list[str], kept: frozenset[TaskId]) -> list[str]:
    answer: Mapping[str, Any] = client.volumes(filters={"label": labels})
    return [
        volume["Name"]
        for volume in answer.get("Volumes") or ()
        if task_id(TaskArn(volume["Labels"][TASK_LABEL])) not in kept
    ]


def _groups(groups: TaskGroups, kept: frozenset[TaskId]) -> dict[TaskId, str]:
    return {task: groups.parent_for(task) or task for task in groups.leftovers(kept)}


def _is_removed(client: APIClient, volume: str) -> bool:
    try:
        remove_volume(client, volume)
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
        log.info("leftover.kept", name=volume, reason=str(error.explanation))
        return False
    return True

"""Checkpoints in memory, through the real codec, that can be made to fail."""

from agent.adapters.files.codec import CheckpointUnreadable, decode_task, encode_task
from agent.model.errors import CheckpointFailed
from agent.model.ids import TaskArn, task_id
from agent.model.state import TaskState
from agent.ports.checkpoint import Loaded


class MemoryCheckpoints:
    """Implements ``CheckpointStore``. Outlives a simulated restart: give the same one to the next agent.

    ``failure``: while it is a text, ``save`` and ``forget`` raise ``CheckpointFailed`` with it.
    ``saves_left``: after so many more saves the next one fails with "no space left"; None: never.
    ``saved``: every state that was saved, in order, as a restarted agent would read it.
    ``broken``: names of records set aside so far.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self.saves_left: int | None = None
        self.saved: list[TaskState] = []
        self.broken: list[str] = []
        self._records: dict[str, bytes] = {}

    # -- the port ------------------------------------------------------------------------------

    async def load_all(self) -> Loaded:
        """Every readable record, by task id."""
        tasks, set_aside = [], []
        for name, text in sorted(self._records.items()):
            try:
                tasks.append(decode_task(text))
            except CheckpointUnreadable:
                set_aside.append(name)
        for name in set_aside:
            del self._records[name]
        self.broken += set_aside
        return Loaded(tuple(tasks), tuple(set_aside))

    async def save(self, task: TaskState) -> None:
        """Keep the state. Raise ``CheckpointFailed`` as the attributes say."""
        self._require_health(task.arn)
        if self.saves_left is not None:
            if self.saves_left == 0:
                raise CheckpointFailed(f"cannot write {_name(task.arn)}: no space left on device")
            self.saves_left -= 1
        text = encode_task(task)
        self._records[_name(task.arn)] = text
        self.saved.append(decode_task(text))

    async def forget(self, arn: TaskArn) -> None:
        """Drop the record; fine if there is none."""
        self._require_health(arn)
        self._records.pop(_name(arn), None)

    # -- the test's side -----------------------------------------------------------------------

    def held(self) -> tuple[TaskState, ...]:
        """What a restarted agent would load now, by task id."""
        return tuple(decode_task(text) for _, text in sorted(self._records.items()))

    def put_raw(self, name: str, text: bytes) -> None:
        """Place a record of any content under a file's name, such as ``<task id>.json``."""
        self._records[name] = text

    def _require_health(self, arn: TaskArn) -> None:
        if self.failure is not None:
            raise CheckpointFailed(f"cannot write {_name(arn)}: {self.failure}")


def _name(arn: TaskArn) -> str:
    return f"{task_id(arn)}.json"

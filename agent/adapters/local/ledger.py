"""The verbs of the store within one transaction: tasks, definitions and interfaces."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.adapters.local.annotations import Annotations
from agent.adapters.local.assignments import Assignments
from agent.adapters.local.records import (
    AttachmentRecord,
    DefinitionRecord,
    Document,
    InstanceRecord,
    TaskRecord,
    from_epoch,
)

_REMEMBERED = 256  # definitions; each takes a few kilobytes


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a subnet, IPv4 and IPv6 together. ``newest_*``: what was given last."""

    used: frozenset[str]
    resting: frozenset[str]
    newest_ipv4: str | None
    newest_ipv6: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is taken of the machine: CPU units, MiB, tasks, network interfaces."""

    cpu: int
    memory: int
    tasks: int
    interfaces: int


class Ledger(Annotations):
    """Made for one transaction, used on its thread only. ``tasks_changed``: somebody should look."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        assignments: Assignments,
        definitions: dict[tuple[str, int], DefinitionRecord],
        now: datetime,
    ) -> None:
        super().__init__(connection, now)
        self._definitions = definitions
        self._has_written_definitions = False
        self.tasks_changed = False
        self._assignments = assignments

    # -- clusters and this machine ---------------------------------------------------------------

    def add_cluster(self, name: str) -> None:
        """Make the cluster; fine if it exists."""
        self._db.execute(
            "INSERT INTO clusters (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (name, self.now.timestamp()),
        )

    def clusters(self) -> tuple[str, ...]:
        """The names of all clusters, sorted."""
        return tuple(name for (name,) in self._db.execute("SELECT name FROM clusters ORDER BY name"))

    def save_instance(self, instance: InstanceRecord) -> None:
        """Write the container instance."""
        self._db.execute(
            "INSERT INTO instances (id, cluster, status, version, registered_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version",
            (
                instance.id,
                instance.cluster,
                instance.status,
                instance.version,
                instance.registered_at.timestamp(),
            ),
        )

    def forget_instances_but(self, cluster: str) -> None:
        """A machine belongs to one cluster: it leaves every other."""
        self._db.execute("DELETE FROM instances WHERE cluster != ?", (cluster,))

    def instance(self, cluster: str) -> InstanceRecord | None:
        """The container instance of that cluster: this machine, or none."""
        row = self._db.execute(
            "SELECT id, cluster, status, version, registered_at FROM instances WHERE cluster = ?", (cluster,)
        ).fetchone()
        if row is None:
            return None
        return InstanceRecord(
            id=row[0], cluster=row[1], status=row[2], version=row[3], registered_at=from_epoch(row[4])
        )

    # -- task definitions ------------------------------------------------------------------------

    def newest_revision(self, family: str) -> int:
        """The highest revision that the family ever had; 0 if there is none."""
        row = self._db.execute(
            "SELECT coalesce(max(revision), 0) FROM definitions WHERE family = ?", (family,)
        ).fetchone()
        return int(row[0])

    def save_definition(self, definition: DefinitionRecord) -> None:
        """Write one revision."""
        self._has_written_definitions = True
        self._definitions.pop((definition.family, definition.revision), None)
        self._db.execute(
            "INSERT INTO definitions (family, revision, is_active, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (family, revision) DO UPDATE SET is_active = excluded.is_active,"
            " record = excluded.record",
            (definition.family, definition.revision, definition.is_active, _text(definition.as_json())),
        )

    def definition(self, family: str, revision: int | None) -> DefinitionRecord | None:
        """One revision; ``revision`` None: the newest active one."""
        remembered = self._definitions.get((family, revision)) if revision is not None else None
        if remembered is not None:
            return remembered
        if revision is None:
            query = (
                "SELECT record FROM definitions WHERE family = ? AND is_active ORDER BY revision DESC LIMIT 1"
            )
            row = self._db.execute(query, (family,)).fetchone()
        else:
            query = "SELECT record FROM definitions WHERE family = ? AND revision = ?"
            row = self._db.execute(query, (family, revision)).fetchone()
        if row is None:
            return None
        found = DefinitionRecord.from_json(json.loads(row[0]))
        # What this transaction wrote may be undone yet; only what was there before is remembered.
        if not self._has_written_definitions and len(self._definitions) < _REMEMBERED:
            self._definitions[found.family, found.revision] = found
        return found

    def definition_names(self, family: str | None, *, is_active: bool) -> tuple[tuple[str, int], ...]:
        """Family and revision of each definition in that state, sorted; ``family`` None: of every family."""
        rows = self._db.execute(
            "SELECT family, revision FROM definitions WHERE is_active = ? AND (? IS NULL OR family = ?)"
            " ORDER BY family, revision",
            (is_active, family, family),
        )
        return tuple((name, revision) for name, revision in rows)

    def families(self, prefix: str) -> tuple[tuple[str, bool], ...]:
        """Every family that starts so, and whether it has an active revision; sorted."""
        rows = self._db.execute(
            "SELECT family, max(is_active) FROM definitions WHERE substr(family, 1, ?) = ?"
            " GROUP BY family ORDER BY family",
            (len(prefix), prefix),
        )
        return tuple((family, bool(is_active)) for family, is_active in rows)

    # -- tasks -----------------------------------------------------------------------------------

    def add_task(self, task: TaskRecord, definition: DefinitionRecord, attachment: AttachmentRecord) -> None:
        """Write a new task with its interface."""
        self.tasks_changed = True
        self._write_task(task)
        self.save_attachment(attachment)
        self._assignments.keep(task, definition, attachment)

    def save_task(self, task: TaskRecord) -> None:
        """Write a known task again, and keep the side record of a live one current."""
        before = self._db.execute(
            "SELECT desired_status, last_status IN ('DEPROVISIONING', 'STOPPED') FROM tasks WHERE id = ?",
            (task.id,),
        ).fetchone()
        # Most changes are news for users only: the agent and the interfaces need not be woken for them.
        self.tasks_changed |= before is None or before != (task.desired_status, task.is_done)
        self._write_task(task)
        if task.last_status == "STOPPED":
            self._assignments.forget(task.id)
            return
        attachment = self.attachment_of(task.id)
        definition = self.definition(task.family, task.revision)
        if attachment is not None and definition is not None:
            self._assignments.keep(task, definition, attachment)

    def _write_task(self, task: TaskRecord) -> None:
        self._db.execute(
            "INSERT INTO tasks (id, cluster, family, revision, desired_status, last_status, started_by, cpu,"
            " memory, created_at, stopped_at, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET desired_status = excluded.desired_status,"
            " last_status = excluded.last_status, stopped_at = excluded.stopped_at, record = excluded.record",
            (
                task.id,
                task.cluster,
                task.family,
                task.revision,
                task.desired_status,
                task.last_status,
                task.started_by,
                task.cpu,
                task.memory,
                task.created_at.timestamp(),
                task.stopped_at.timestamp() if task.stopped_at is not None else None,
                _text(task.as_json()),
            ),
        )

    def task(self, cluster: str | None, task_id: str) -> TaskRecord | None:
        """The task of that id; ``cluster`` None: wherever it is."""
        row = self._db.execute(
            "SELECT record FROM tasks WHERE id = ? AND (? IS NULL OR cluster = ?)",
            (task_id, cluster, cluster),
        ).fetchone()
        return TaskRecord.from_json(json.loads(row[0])) if row is not None else None

    def task_ids(
        self, cluster: str, desired_status: str, family: str | None = None, started_by: str | None = None
    ) -> tuple[str, ...]:
        """Ids of the cluster's tasks that fit, oldest first. Reads no records: there may be a thousand."""
        rows = self._db.execute(
            "SELECT id FROM tasks WHERE cluster = ? AND desired_status = ? AND (? IS NULL OR family = ?)"
            " AND (? IS NULL OR started_by = ?) ORDER BY created_at, rowid",
            (cluster, desired_status, family, family, started_by, started_by),
        )
        return tuple(task_id for (task_id,) in rows)

    def live_tasks(self) -> tuple[TaskRecord, ...]:
        """Every task that is not STOPPED, oldest first."""
        rows = self._db.execute(
            "SELECT record FROM tasks WHERE last_status != 'STOPPED' ORDER BY created_at, rowid"
        )
        return tuple(TaskRecord.from_json(json.loads(text)) for (text,) in rows)

    def wanted(self) -> tuple[tuple[str, str | None], ...]:
        """Ids of the tasks that the agent has not ended yet, oldest first; why each must stop, or None.

        Read on every change: it must not look into the records.
        """
        rows = self._db.execute(
            "SELECT id,"
            " CASE WHEN desired_status = 'STOPPED' THEN coalesce(record ->> 'stopped_reason', '') END"
            " FROM tasks WHERE last_status NOT IN ('DEPROVISIONING', 'STOPPED') ORDER BY created_at, rowid"
        )
        return tuple((task_id, stop) for task_id, stop in rows)

    def forget_stopped(self, older_than: timedelta, keep_at_most: int) -> int:
        """Delete what stopped longer ago, or is not among the newest; the number of tasks deleted."""
        doomed = [
            task_id
            for (task_id,) in self._db.execute(
                "SELECT id FROM tasks WHERE stopped_at < ? UNION SELECT id FROM"
                " (SELECT id FROM tasks WHERE stopped_at IS NOT NULL"
                " ORDER BY stopped_at DESC LIMIT -1 OFFSET ?)",
                ((self.now - older_than).timestamp(), keep_at_most),
            )
        ]
        for task_id in doomed:
            self._db.execute("DELETE FROM tags WHERE arn LIKE '%:task/%/' || ?", (task_id,))
            self._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
        return len(doomed)

    # -- network interfaces ----------------------------------------------------------------------

    def save_attachment(self, attachment: AttachmentRecord) -> None:
        """Write the task's interface. The task must have been written before."""
        released = attachment.released_at
        self._db.execute(
            "INSERT INTO attachments (id, task_id, subnet_id, ipv4_address, status, created_at,"
            " released_at, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status,"
            " released_at = excluded.released_at, record = excluded.record",
            (
                attachment.id,
                attachment.task_id,
                attachment.subnet_id,
                attachment.ipv4_address,
                attachment.status,
                attachment.created_at.timestamp(),
                released.timestamp() if released is not None else None,
                _text(attachment.as_json()),
            ),
        )

    def attachment_of(self, task_id: str) -> AttachmentRecord | None:
        """The interface of a task."""
        row = self._db.execute("SELECT record FROM attachments WHERE task_id = ?", (task_id,)).fetchone()
        return AttachmentRecord.from_json(json.loads(row[0])) if row is not None else None

    def interface_goals(self) -> tuple[tuple[str, bool], ...]:
        """Task ids of all interfaces whose address is not released, and whether the interface must go."""
        rows = self._db.execute(
            "SELECT task_id, last_status IN ('DEPROVISIONING', 'STOPPED') FROM attachments"
            " JOIN tasks ON tasks.id = task_id WHERE released_at IS NULL ORDER BY attachments.rowid"
        )
        return tuple((task_id, bool(must_go)) for task_id, must_go in rows)

    def live_attachments(self) -> tuple[AttachmentRecord, ...]:
        """Every interface whose address has not been released, oldest first."""
        rows = self._db.execute("SELECT record FROM attachments WHERE released_at IS NULL ORDER BY rowid")
        return tuple(AttachmentRecord.from_json(json.loads(text)) for (text,) in rows)

    def addresses(self, subnet_id: str, released_after: datetime) -> Addresses:
        """Which addresses of the subnet are in use, which were released after that time, and the newest."""
        rows = self._db.execute(
            "SELECT ipv4_address, record ->> 'ipv6_address', released_at FROM attachments"
            " WHERE subnet_id = ? AND (released_at IS NULL OR released_at > ?) ORDER BY rowid",
            (subnet_id, released_after.timestamp()),
        ).fetchall()
        newest = self._db.execute(
            "SELECT ipv4_address, record ->> 'ipv6_address' FROM attachments"
            " WHERE subnet_id = ? ORDER BY rowid DESC LIMIT 1",
            (subnet_id,),
        ).fetchone()
        return Addresses(
            used=frozenset(one for row in rows if row[2] is None for one in row[:2] if one),
            resting=frozenset(one for row in rows if row[2] is not None for one in row[:2] if one),
            newest_ipv4=newest[0] if newest is not None else None,
            newest_ipv6=newest[1] if newest is not None else None,
        )

    def usage(self) -> Usage:
        """What the tasks that are not over take from this machine."""
        cpu, memory, tasks = self._db.execute(
            "SELECT coalesce(sum(cpu), 0), coalesce(sum(memory), 0), count(*) FROM tasks"
            " WHERE last_status NOT IN ('DEPROVISIONING', 'STOPPED')"
        ).fetchone()
        (interfaces,) = self._db.execute(
            "SELECT count(*) FROM attachments WHERE released_at IS NULL"
        ).fetchone()
        return Usage(cpu=cpu, memory=memory, tasks=tasks, interfaces=interfaces)

    def task_counts(self, cluster: str) -> tuple[int, int]:
        """How many tasks of the cluster are running, and how many are on their way there."""
        counts: dict[str, int] = dict(
            self._db.execute(
                "SELECT last_status, count(*) FROM tasks WHERE cluster = ? GROUP BY last_status", (cluster,)
            ).fetchall()
        )
        return counts.get("RUNNING", 0), sum(counts.get(one, 0) for one in ("PROVISIONING", "PENDING"))


def _text(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))

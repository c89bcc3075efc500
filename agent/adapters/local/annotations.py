"""What the store keeps beside tasks and definitions: tags, used client tokens, and each task's history."""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta

from agent.adapters.local.records import TaskEvent, from_epoch


class Annotations:
    """Made for one transaction, used on its thread only. ``now``: when the transaction began."""

    def __init__(self, connection: sqlite3.Connection, now: datetime) -> None:
        self.now = now
        self._db = connection

    def token(self, cluster: str, token: str) -> tuple[str, tuple[str, ...]] | None:
        """The fingerprint of the request that used the token first, and the ids of its tasks."""
        row = self._db.execute(
            "SELECT fingerprint, task_ids FROM tokens WHERE cluster = ? AND token = ?", (cluster, token)
        ).fetchone()
        return (row[0], tuple(json.loads(row[1]))) if row is not None else None

    def save_token(self, cluster: str, token: str, fingerprint: str, task_ids: Iterable[str]) -> None:
        """Remember that the token was used."""
        self._db.execute(
            "INSERT INTO tokens (cluster, token, fingerprint, task_ids, created_at) VALUES (?, ?, ?, ?, ?)",
            (cluster, token, fingerprint, json.dumps(list(task_ids)), self.now.timestamp()),
        )

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a resource, sorted by key."""
        return dict(self._db.execute("SELECT key, value FROM tags WHERE arn = ? ORDER BY key", (arn,)))

    def save_tags(self, arn: str, tags: dict[str, str]) -> None:
        """Add tags, or give them new values."""
        self._db.executemany(
            "INSERT INTO tags (arn, key, value) VALUES (?, ?, ?)"
            " ON CONFLICT (arn, key) DO UPDATE SET value = excluded.value",
            [(arn, key, value) for key, value in tags.items()],
        )

    def remove_tags(self, arn: str, keys: Iterable[str]) -> None:
        """Remove tags; fine if they do not exist."""
        self._db.executemany("DELETE FROM tags WHERE arn = ? AND key = ?", [(arn, key) for key in keys])

    def note(self, task_id: str, name: str, detail: str = "") -> None:
        """Add a line to the task's history."""
        self._db.execute(
            "INSERT INTO events (task_id, at, name, detail) VALUES (?, ?, ?, ?)",
            (task_id, self.now.timestamp(), name, detail),
        )

    def events(self, task_id: str) -> tuple[TaskEvent, ...]:
        """The task's history, oldest first."""
        rows = self._db.execute(
            "SELECT task_id, at, name, detail FROM events WHERE task_id = ? ORDER BY number", (task_id,)
        )
        return tuple(TaskEvent(row[0], from_epoch(row[1]), row[2], row[3]) for row in rows)

    def forget_history(self, older_than: timedelta, tokens_older_than: timedelta, keep_at_most: int) -> None:
        """Delete old events, events beyond the newest ``keep_at_most``, and old client tokens."""
        self._db.execute("DELETE FROM events WHERE at < ?", ((self.now - older_than).timestamp(),))
        self._db.execute(
            "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (keep_at_most,)
        )
        self._db.execute(
            "DELETE FROM tokens WHERE created_at < ?", ((self.now - tokens_older_than).timestamp(),)
        )

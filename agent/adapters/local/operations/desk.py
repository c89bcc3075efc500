"""What an operation works with: one transaction, the facts of this machine, common look-ups."""

from dataclasses import dataclass
from typing import Any

from agent.adapters.local.definitions.overrides import applied
from agent.adapters.local.errors import ClientFault, ClusterNotFound, InvalidParameter
from agent.adapters.local.identity import is_task_id
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.node import Node, instance_view
from agent.adapters.local.records import DefinitionRecord, Document, InstanceRecord, TaskRecord
from agent.adapters.local.taskview import task_view

MOST_TAGS = 50
_LONGEST_KEY, _LONGEST_VALUE = 128, 256


@dataclass(frozen=True, slots=True)
class Desk:
    """Made for one request. ``is_connected``: the agent listens; ``is_starting``: it has not listened yet."""

    ledger: Ledger
    node: Node
    is_connected: bool
    is_starting: bool = False

    def cluster(self, wanted: Document) -> str:
        """The cluster that the request names. Raise ``ClusterNotFound``."""
        name = self.node.identity.cluster_name(wanted.get("cluster"))
        if name not in self.ledger.clusters():
            raise ClusterNotFound("Cluster not found.")
        return name

    def definition(self, text: str) -> DefinitionRecord:
        """The definition that a family, family:revision or ARN names. Raise ``ClientFault``."""
        family, revision = self.node.identity.family_and_revision(text)
        found = self.ledger.definition(family, revision)
        if found is None:
            raise ClientFault(f"Unable to describe task definition. taskDefinition {text!r} does not exist.")
        return found

    def task(self, cluster: str, text: str) -> TaskRecord | None:
        """The task that an id or ARN names; None: it is not known here. Raise ``InvalidParameter``."""
        task_id = self.node.identity.short_id("task", text)
        if text.startswith("arn:"):
            named = text.partition("task/")[2].partition("/")[0]
            if task_id == text or (named not in {cluster, task_id}):
                raise InvalidParameter(
                    f"Invalid identifier {text!r}: expected a task of cluster {cluster}, in this region"
                )
        if not is_task_id(task_id):
            raise InvalidParameter(
                f"Invalid task {text!r}: expected an id of 32 hexadecimal digits, or an ARN"
            )
        return self.ledger.task(cluster, task_id)

    def instance(self, cluster: str) -> InstanceRecord | None:
        """This machine, if it belongs to the cluster."""
        return self.ledger.instance(cluster)

    def instance_arn(self, cluster: str) -> str:
        """The ARN of this machine in the cluster; empty if it does not belong to it."""
        instance = self.ledger.instance(cluster)
        return self.node.identity.instance_arn(cluster, instance.id) if instance is not None else ""

    def show_instance(self, instance: InstanceRecord, *, with_tags: bool = False) -> Document:
        """The machine as describe-container-instances shows it."""
        return instance_view(
            self.node, self.ledger, instance, is_connected=self.is_connected, with_tags=with_tags
        )

    def show_task(self, task: TaskRecord, *, with_tags: bool = False) -> Document:
        """The task as describe-tasks shows it."""
        definition = self.ledger.definition(task.family, task.revision)
        document = applied(definition.document, task.overrides) if definition is not None else {}
        tags = self.ledger.tags(self.node.identity.task_arn(task.cluster, task.id)) if with_tags else {}
        return task_view(
            self.node,
            task,
            document,
            self.ledger.attachment_of(task.id),
            instance_arn=self.instance_arn(task.cluster),
            tags=tags,
        )

    def show_definition(self, definition: DefinitionRecord) -> Document:
        """The definition as describe-task-definition shows it."""
        view: Document = {
            **definition.document,
            "taskDefinitionArn": self.node.identity.definition_arn(definition.family, definition.revision),
            "revision": definition.revision,
            "status": "ACTIVE" if definition.is_active else "INACTIVE",
            "registeredAt": definition.registered_at,
            "registeredBy": f"arn:{self.node.identity.partition}:iam::{self.node.identity.account}:root",
        }
        if definition.deregistered_at is not None:
            view["deregisteredAt"] = definition.deregistered_at
        return view

    def show_tags(self, arn: str) -> list[Document]:
        """The tags of a resource in ECS's form."""
        return [{"key": key, "value": value} for key, value in self.ledger.tags(arn).items()]


def checked_tags(tags: list[Document], present: int = 0) -> dict[str, str]:
    """Tags as a mapping. Raise ``InvalidParameter`` that names what is wrong with them."""
    checked: dict[str, str] = {}
    for position, tag in enumerate(tags):
        key, value = tag.get("key", ""), tag.get("value", "")
        where = f"tags[{position}]"
        if not 1 <= len(key) <= _LONGEST_KEY or key.lower().startswith("aws:"):
            raise InvalidParameter(
                f"{where}.key {key!r}: expected 1 to {_LONGEST_KEY} characters, not 'aws:' first"
            )
        if len(value) > _LONGEST_VALUE:
            raise InvalidParameter(
                f"{where}.value: {len(value)} characters, expected at most {_LONGEST_VALUE}"
            )
        if key in checked:
            raise InvalidParameter(f"{where}.key {key!r}: expected every key once")
        checked[key] = value
    if present + len(checked) > MOST_TAGS:
        raise InvalidParameter(f"tags: {present + len(checked)} tags, expected at most {MOST_TAGS}")
    return checked


def wants_tags(wanted: Document) -> bool:
    """Whether ``include`` asks for tags."""
    return "TAGS" in wanted.get("include", [])


def at_most(field: str, values: list[Any], most: int) -> list[Any]:
    """The values, or ``InvalidParameter`` if there are none or too many."""
    if not 1 <= len(values) <= most:
        raise InvalidParameter(f"{field}: {len(values)} given, expected 1 to {most}")
    return values

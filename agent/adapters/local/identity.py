"""Names of things in this one-machine region: ARNs, ids, and what a user may write instead of an ARN."""

import re
import secrets
import uuid
from dataclasses import dataclass

from agent.adapters.local.errors import ClusterNotFound, InvalidParameter
from agent.model.ids import CredentialsId

FAMILY = re.compile(r"[A-Za-z0-9_-]{1,255}")
CLUSTER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,254}")
ARN = re.compile(
    r"arn:(?P<partition>[a-z-]+):(?P<service>[a-z0-9]+):(?P<region>[a-z0-9-]*):(?P<account>[0-9]*):(?P<rest>.+)"
)
_TASK_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this control plane says it is. ``account`` has twelve digits; ``cluster`` is the node's cluster."""

    region: str
    account: str
    cluster: str = "default"
    partition: str = "aws"

    def arn(self, resource: str) -> str:
        """The ARN of an ECS resource such as ``cluster/default``."""
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:{resource}"

    def cluster_arn(self, name: str) -> str:
        """The ARN of a cluster."""
        return self.arn(f"cluster/{name}")

    def definition_arn(self, family: str, revision: int) -> str:
        """The ARN of a task definition."""
        return self.arn(f"task-definition/{family}:{revision}")

    def task_arn(self, cluster: str, task_id: str) -> str:
        """The ARN of a task."""
        return self.arn(f"task/{cluster}/{task_id}")

    def instance_arn(self, cluster: str, instance_id: str) -> str:
        """The ARN of a container instance."""
        return self.arn(f"container-instance/{cluster}/{instance_id}")

    def container_arn(self, cluster: str, task_id: str, container_id: str) -> str:
        """The ARN of a container of a task."""
        return self.arn(f"container/{cluster}/{task_id}/{container_id}")

    def attachment_arn(self, attachment_id: str) -> str:
        """The ARN of a network interface's attachment."""
        return self.arn(f"attachment/{attachment_id}")

    def cluster_name(self, text: str | None) -> str:
        """The cluster that a request names by name or ARN; without one, ECS means ``default``.

        Raise ``ClusterNotFound`` for an ARN of elsewhere.
        """
        if not text:
            return "default"
        if not text.startswith("arn:"):
            return text
        prefix = self.cluster_arn("")
        if not text.startswith(prefix):
            raise ClusterNotFound("Cluster not found.")
        return text.removeprefix(prefix)

    def short_id(self, kind: str, text: str) -> str:
        """The last segment of an ARN of that kind (``task``, ``container-instance``), or the text itself."""
        return text.rsplit("/", 1)[-1] if text.startswith(self.arn(f"{kind}/")) else text

    def family_and_revision(self, text: str) -> tuple[str, int | None]:
        """What ``family``, ``family:revision`` or a task definition's ARN names; None: the newest active one.

        Raise ``InvalidParameter``.
        """
        prefix = self.arn("task-definition/")
        name = text.removeprefix(prefix) if text.startswith("arn:") else text
        family, colon, revision = name.partition(":")
        if not FAMILY.fullmatch(family) or (colon and not re.fullmatch(r"[1-9][0-9]{0,8}", revision)):
            raise InvalidParameter(
                f"taskDefinition {text!r}: expected a family, family:revision, or an ARN of {prefix}"
            )
        return family, int(revision) if colon else None


def new_task_id() -> str:
    """A task id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def new_uuid() -> str:
    """An id of a container or attachment."""
    return str(uuid.uuid4())


def new_credentials_id() -> CredentialsId:
    """256 random bits for a URL, which nobody guesses."""
    return CredentialsId(secrets.token_urlsafe(32))


def is_task_id(text: str) -> bool:
    """Whether the text has the shape of a task id."""
    return _TASK_ID.fullmatch(text) is not None

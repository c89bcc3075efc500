"""Names for the strings that identify things, so that a type checker keeps them apart."""

from typing import NewType

TaskArn = NewType("TaskArn", str)
"""``arn:<partition>:ecs:<region>:<account>:task/<cluster>/<task id>``."""

TaskId = NewType("TaskId", str)
"""The last segment of a task ARN: 32 hexadecimal digits."""

RoleArn = NewType("RoleArn", str)
"""``arn:<partition>:iam::<account>:role/<path and name>``."""

CredentialsId = NewType("CredentialsId", str)
"""The name under which a task asks for its credentials. Useless without the task's source address."""

ContainerId = NewType("ContainerId", str)
"""The runtime's own id of a container: 64 hexadecimal digits."""

MacAddress = NewType("MacAddress", str)
"""Six lower-case hexadecimal octets joined by colons."""


def task_id(arn: TaskArn) -> TaskId:
    """The short id in a task ARN."""
    return TaskId(arn.rsplit("/", 1)[-1])

"""Credentials of a role. Never part of a task's state, never formatted into a text."""

from dataclasses import dataclass, field
from datetime import datetime

from agent.model.ids import RoleArn


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials of one role. The secret parts do not show in ``repr``."""

    role_arn: RoleArn
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """A user name and password for one image registry."""

    username: str
    password: str = field(repr=False)

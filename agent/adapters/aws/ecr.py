"""One question to Amazon ECR: a login for a registry. Blocks; for threads only."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from agent.adapters.aws.refusals import USELESS_TO_REPEAT, with_hint
from agent.adapters.aws.registries import EcrRegistry
from agent.adapters.aws.sdk import Keys, Sdk, Verdict
from agent.adapters.aws.tokens import Token
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullEcrImage, EcrLoginUnavailable

_VERDICT = Verdict(
    refused=lambda code, sentence: CannotPullEcrImage(with_hint(code, sentence)),
    useless=USELESS_TO_REPEAT,
    unavailable=EcrLoginUnavailable,
)


def ask_ecr(sdk: Sdk, registry: EcrRegistry, keys: Keys | None) -> Token:
    """GetAuthorizationToken with these keys, or the host's own (None).

    Raise ``CannotPullEcrImage`` when asking again is useless, else ``EcrLoginUnavailable``.
    """
    owner = f" of account {registry.account}" if registry.account else ""
    purpose = f"no login for the registry{owner}"
    region, endpoint = registry.region, _url(registry.endpoint)
    wanted = {"registryIds": [registry.account]} if registry.account else {}
    with sdk.translated("ECR", purpose, _VERDICT, region=region, endpoint=endpoint, keys=keys):
        answer: dict[str, Any] = sdk.client_with("ecr", region, keys, endpoint).get_authorization_token(
            **wanted
        )
    token = _token(answer)
    if token is None:
        raise EcrLoginUnavailable(f"{purpose}: ECR in {region} gave an answer that cannot be read")
    return token


def _token(answer: dict[str, Any]) -> Token | None:
    """The login in an answer; None if it cannot be read. Says no more, since what it reads is secret."""
    entries = answer.get("authorizationData") or [{}]
    try:
        decoded = base64.b64decode(entries[0].get("authorizationToken") or "").decode()
    except (binascii.Error, UnicodeDecodeError, AttributeError, TypeError):
        return None
    username, _, password = decoded.partition(":")
    if not username or not password:
        return None
    expires_at: datetime | None = entries[0].get("expiresAt")
    return Token(RegistryLogin(username, password), expires_at.astimezone(UTC) if expires_at else None)


def _url(endpoint: str) -> str | None:
    if not endpoint:
        return None
    return endpoint if "://" in endpoint else f"https://{endpoint}"

"""One question to Secrets Manager: the login to a private registry. Blocks; for threads only."""

import json
import re
from typing import Any

from agent.adapters.aws.refusals import USELESS_TO_REPEAT, with_hint
from agent.adapters.aws.sdk import Keys, Sdk, Verdict
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullPrivateImage, PrivateLoginUnavailable

_SECRET_ARN = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):\d{12}:secret:.+")
_EXPECTED = 'expected a JSON object with the texts "username" and "password"'


def ask_secret(sdk: Sdk, secret: str, region: str, keys: Keys) -> RegistryLogin:
    """GetSecretValue (ecs-protocol 5.11). ``secret``: name or ARN. ``region`` empty: the ARN's, or our own.

    Raise ``CannotPullPrivateImage`` when asking again is useless, else ``PrivateLoginUnavailable``.
    """
    found = _SECRET_ARN.fullmatch(secret)
    region = region or (found[1] if found else sdk.region)
    purpose = f"no login from the secret {secret}"

    def refused(code: str, sentence: str) -> CannotPullPrivateImage:
        if code == "ResourceNotFoundException":
            return CannotPullPrivateImage(
                f"ResourceNotFoundException: The task can't retrieve the secret with ARN '{secret}' from AWS "
                "Secrets Manager. Check whether the secret exists in the specified Region"
            )
        return CannotPullPrivateImage(with_hint(code, sentence))

    verdict = Verdict(refused, USELESS_TO_REPEAT, PrivateLoginUnavailable)
    with sdk.translated("Secrets Manager", purpose, verdict, region=region, keys=keys):
        answer: dict[str, Any] = sdk.client_with("secretsmanager", region, keys).get_secret_value(
            SecretId=secret
        )
    login, problem = _login(answer.get("SecretString"))
    if login is None:
        raise CannotPullPrivateImage(f"{purpose}: {_EXPECTED}, {problem}")
    return login


def _login(text: object) -> tuple[RegistryLogin | None, str]:
    """The login, or what is wrong. Never raises: an error about the text would carry the text."""
    if not isinstance(text, str):
        return None, "it has no text (a binary secret, or an empty answer)"
    try:
        content = json.loads(text)
    except ValueError:
        return None, "it is not JSON"
    if not isinstance(content, dict):
        return None, "it is another kind of JSON"
    for field in ("username", "password"):
        if not isinstance(content.get(field), str) or not content[field]:
            return None, f"{field} is missing"
    return RegistryLogin(content["username"], content["password"]), ""

"""The tags of an EC2 instance, for those who want them on the container instance too (ecs-protocol 1.9)."""

import asyncio
from typing import Any

import structlog

from agent.adapters.aws.sdk import Sdk
from agent.model.errors import AgentError, PortUnavailable
from agent.model.spec import Pairs

log = structlog.get_logger()

ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0  # seconds
_LIMIT = 60.0  # seconds for all attempts together
_PAGE = 50  # the wire's page size, and as many tags as an instance may have
_PAGES = 3  # tags of AWS itself come on top


async def instance_tags(sdk: Sdk, instance_id: str, *, attempts: int = ATTEMPTS) -> Pairs:
    """Key and value of every tag, those of AWS itself too, ordered by key.

    Asked for several times. Raise ``PortUnavailable``, which names the last trouble.
    """
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    trouble = f"EC2 has not answered in {_LIMIT:.0f} s"
    try:
        async with asyncio.timeout(_LIMIT):
            for attempt in range(1, attempts + 1):
                try:
                    return await loop.run_in_executor(sdk.threads, _ask, sdk, instance_id)
                except AgentError as error:
                    trouble = str(error)
                    log.warning("tags.missed", instance=instance_id, attempt=attempt, reason=trouble)
                if attempt < attempts:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
    except TimeoutError:
        log.warning("tags.missed", instance=instance_id, attempt=attempts, reason=trouble)
    raise PortUnavailable(f"{trouble} (asked up to {attempts} times)")


def _ask(sdk: Sdk, instance_id: str) -> Pairs:
    wanted = [
        {"Name": "resource-id", "Values": [instance_id]},
        {"Name": "resource-type", "Values": ["instance"]},
    ]
    found: dict[str, str] = {}
    with sdk.translated("EC2", f"the tags of instance {instance_id} cannot be read"):
        client = sdk.client("ec2")
        token: dict[str, str] = {}
        for _ in range(_PAGES):
            answer: dict[str, Any] = client.describe_tags(Filters=wanted, MaxResults=_PAGE, **token)
            found |= {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
            if not answer.get("NextToken"):
                break
            token = {"NextToken": answer["NextToken"]}
    return tuple(sorted(found.items()))

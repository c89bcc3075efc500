"""Messages as they were seen on a control channel, in order, with everything secret made up."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.adapters.ecs.wire.tasks import TaskPlace
from agent.model.spec import PullBehavior

RECORDED: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "messages.jsonl").read_text().splitlines()
]
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PLACE = TaskPlace(cluster="demo", pull_behavior=PullBehavior.ONCE, expires_at=lambda _: NOON)
ARN = "arn:aws:ecs:us-west-2:111122223333:task/demo/0123456789abcdef0123456789abcdef"


def recorded(kind: str, sender: str = "cluster") -> list[dict[str, Any]]:
    """The contents of all messages of a type."""
    found = [each["message"] for each in RECORDED if (each["type"], each["from"]) == (kind, sender)]
    assert found
    return found


def an_eni(**changes: Any) -> dict[str, Any]:
    return {
        "attachmentArn": "arn:aws:ecs:us-west-2:111122223333:attachment/a1",
        "ec2Id": "eni-1",
        "macAddress": "0A:00:00:00:00:01",
        "ipv4Addresses": [
            {"primary": False, "privateAddress": "10.0.1.6"},
            {"primary": True, "privateAddress": "10.0.1.5"},
        ],
        "subnetGatewayIpv4Address": "10.0.1.1/24",
        "domainNameServers": ["10.0.0.2"],
        "domainName": ["ec2.internal"],
        "privateDnsName": "ip-10-0-1-5.ec2.internal",
        **changes,
    }


def a_role(**changes: Any) -> dict[str, Any]:
    return {
        "credentialsId": "cred-1",
        "roleArn": "arn:aws:iam::111122223333:role/r",
        "accessKeyId": "EXAMPLEKEYID0001",
        "secretAccessKey": "fake-secret-key",
        "sessionToken": "fake-secret-token",
        "expiration": "2030-01-01T18:00:00Z",
        **changes,
    }


def a_container(name: str = "app", **changes: Any) -> dict[str, Any]:
    return {"name": name, "image": "shop/app:1", "cpu": 10, "memory": 16, "essential": True, **changes}


def a_raw_task(*containers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "arn": ARN,
        "family": "shop",
        "version": "7",
        "desiredStatus": "RUNNING",
        "launchType": "EC2",
        "networkMode": "awsvpc",
        "elasticNetworkInterfaces": [an_eni()],
        "containers": list(containers) or [a_container()],
        **changes,
    }

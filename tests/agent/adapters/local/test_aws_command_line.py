"""The AWS command line, as its users have it, against the local API."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import NGINX, SUBNET

pytestmark = pytest.mark.integration  # each call starts an interpreter: about a second


async def aws(stage, tmp_path, *arguments):
    keys = stage.backend.keys
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL_ECS": stage.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(sys.executable).with_name("aws")),
        "ecs",
        *arguments,
        "--output",
        "json",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, json.loads(out) if out.strip() else {}, err.decode()


async def test_a_task_is_registered_run_awaited_described_and_stopped(stage, tmp_path):
    definition = tmp_path / "nginx-awsvpc.json"
    definition.write_text(json.dumps(NGINX))
    code, _, problem = await aws(
        stage, tmp_path, "register-task-definition", "--cli-input-json", f"file://{definition}"
    )
    assert (code, problem) == (0, "")
    network = f"awsvpcConfiguration={{subnets=[{SUBNET}],securityGroups=[sg-0123]}}"
    code, ran, problem = await aws(
        stage, tmp_path, "run-task", "--cluster", "default", "--network-configuration", network,
        "--task-definition", "nginx-awsvpc",
    )  # fmt: skip
    assert (code, problem) == (0, "")
    arn = ran["tasks"][0]["taskArn"]
    await stage.report(arn, TaskStatus.RUNNING)
    assert (await aws(stage, tmp_path, "wait", "tasks-running", "--tasks", arn))[0] == 0
    _, described, _ = await aws(stage, tmp_path, "describe-tasks", "--tasks", arn)
    task = described["tasks"][0]
    details = {one["name"] for one in task["attachments"][0]["details"]}
    assert details == {"subnetId", "networkInterfaceId", "macAddress", "privateDnsName", "privateIPv4Address"}
    assert task["lastStatus"] == "RUNNING"
    code, stopped, _ = await aws(stage, tmp_path, "stop-task", "--task", arn)
    assert (code, stopped["task"]["desiredStatus"]) == (0, "STOPPED")
    code, _, problem = await aws(stage, tmp_path, "stop-task", "--task", "0" * 32)
    assert code != 0
    assert "InvalidParameterException" in problem

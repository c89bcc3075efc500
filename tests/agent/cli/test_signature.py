import subprocess
import sys
from types import SimpleNamespace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from agent.cli.signature import signed

STAMP = "20260131T120000Z"


@pytest.mark.parametrize("body", [b"{}", b"", '{"reason": "caf\u00e9"}'.encode()])
@pytest.mark.parametrize("host", ["127.0.0.1:51670", "[::1]:51670"])
def test_the_signature_is_the_one_that_an_sdk_computes(body, host) -> None:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "A.ListTasks", "Host": host}
    keys = {"access_key_id": "FAKE-KEY", "secret_access_key": "fake/secret"}
    ours = signed(headers, body, region="eu-west-1", stamp=STAMP, **keys)
    signer = SigV4Auth(
        SimpleNamespace(access_key="FAKE-KEY", secret_key="fake/secret", token=None), "ecs", "eu-west-1"
    )
    request = AWSRequest("POST", f"http://{host}/", headers={**headers, "X-Amz-Date": STAMP}, data=body)
    request.context["timestamp"] = STAMP
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert ours["Authorization"].endswith(f"Signature={signer.signature(text, request)}")
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target" in ours["Authorization"]


@pytest.mark.parametrize("words", [["ps"], ["status"], ["stop", "abcd"], ["healthcheck"], ["help"]])
def test_no_word_that_asks_the_agent_imports_an_sdk_or_the_agent_itself(agent, words) -> None:
    program = f"import sys; from agent.cli.main import main; main({words!r}); print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = seen.stdout.splitlines()[-1].split()
    for heavy in ("boto3", "botocore", "docker", "aiohttp", "structlog", "pyroute2", "sqlite3", "asyncio"):
        assert heavy not in loaded, heavy

import subprocess
import sys

import pytest

from tests.architecture.source import ROOT


@pytest.mark.timeout(120)
def test_everybody_imports_only_what_the_contracts_allow() -> None:
    program = (
        "import sys; from importlinter.cli import lint_imports_command; "
        "sys.argv = ['lint-imports', '--no-cache']; lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("agent.lifecycle.table", ("asyncio", "structlog", "docker", "aiohttp")),
        ("agent.cli.tasks", ("structlog", "aiohttp", "docker", "botocore", "boto3", "pyroute2")),
        ("agent.daemon", ("boto3", "moto", "botocore.client")),
    ],
)
def test_a_start_stays_light(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys; import {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

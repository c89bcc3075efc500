"""Docker keeps the contract of the runtime port."""

import pytest

from tests.contracts.runtime import RuntimeContract

pytestmark = pytest.mark.integration


class TestDockerRuntime(RuntimeContract):
    @pytest.fixture
    def stage(self, docker_stage):
        return docker_stage

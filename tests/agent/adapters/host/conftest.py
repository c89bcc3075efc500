import contextlib
import uuid

import pytest

from tests.agent.adapters.host.netlab import Lab


@pytest.fixture
def lab():
    with contextlib.closing(Lab(uuid.uuid4().hex[:6])) as made:
        made.open()
        yield made

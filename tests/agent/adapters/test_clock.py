"""The machine's clock speaks UTC."""

import time
from datetime import UTC, timedelta

from agent.adapters.clock import SystemClock


def test_the_time_is_aware_in_utc_and_the_present():
    before = time.time()
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert now.utcoffset() == timedelta(0)
    assert before <= now.timestamp() <= time.time()

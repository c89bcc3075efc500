"""Readings become the windows that are told."""

import pytest

from agent.adapters.ecs.samples import CAPACITY, Samples
from agent.model.ids import ContainerId
from agent.model.usage import LinkUsage, Usage

APP = ContainerId("app")
MIB = 1024 * 1024
SECOND = 1_000_000_000


def a_link(rx: int, tx: int = 0) -> LinkUsage:
    return LinkUsage(rx, 0, 0, 0, tx, 0, 0, 0)


def filled(*usages: Usage, cores: int = 2) -> Samples:
    samples = Samples(cores)
    for each in usages:
        samples.add(APP, each)
    return samples


def test_processor_use_is_a_share_of_the_whole_host():
    samples = filled(Usage(10.0, cpu=0), Usage(12.0, cpu=1 * SECOND), Usage(14.0, cpu=5 * SECOND))
    # one of two cores for half of the time, then both all the time
    assert samples.take(APP).cpu == pytest.approx((25, 100))


def test_one_reading_is_no_window_and_is_not_lost():
    samples = filled(Usage(10.0, cpu=0, memory=MIB))
    assert samples.take(APP) is None
    samples.add(APP, Usage(11.0, cpu=SECOND, memory=3 * MIB))
    window = samples.take(APP)
    assert window.cpu == pytest.approx((50,))
    assert window.memory == (1, 3)


def test_an_unknown_container_has_no_window():
    assert Samples(1).take(APP) is None


def test_a_window_begins_where_the_one_before_ended():
    samples = filled(Usage(0.0, cpu=0), Usage(2.0, cpu=SECOND), cores=1)
    assert samples.take(APP).cpu == pytest.approx((50,))
    for each in (Usage(4.0, cpu=1 * SECOND), Usage(6.0, cpu=3 * SECOND)):
        samples.add(APP, each)
    # the two seconds between the windows belong to the second
    assert samples.take(APP).cpu == pytest.approx((0, 100))
    assert samples.take(APP) is None


def test_memory_is_told_in_whole_mebibytes():
    samples = filled(Usage(1.0, memory=MIB - 1), Usage(2.0, memory=2 * MIB), Usage(3.0, memory=3 * MIB - 1))
    assert samples.take(APP).memory == (0, 2, 2)


def test_storage_is_told_as_the_counters_stand():
    samples = filled(
        Usage(1.0, storage_read=5, storage_written=50), Usage(2.0, storage_read=7, storage_written=90)
    )
    window = samples.take(APP)
    assert (window.storage_read, window.storage_written) == ((5, 7), (50, 90))


def test_a_link_is_told_with_its_rates():
    samples = filled(
        Usage(1.0, link=a_link(0, 0)), Usage(3.0, link=a_link(100, 10)), Usage(4.0, link=a_link(100, 15))
    )
    link = samples.take(APP).link
    assert [each.rx_bytes for each in link.readings] == [0, 100, 100]
    assert link.rx_rates == pytest.approx((50, 0))
    assert link.tx_rates == pytest.approx((5, 5))


def test_what_is_unknown_is_left_out_and_the_rest_is_told():
    window = filled(Usage(1.0, memory=MIB), Usage(2.0, memory=MIB)).take(APP)
    assert window.memory == (1, 1)
    assert (window.cpu, window.storage_read, window.storage_written, window.link) == ((), (), (), None)


def test_a_number_that_is_known_once_is_no_set():
    window = filled(Usage(1.0, memory=MIB), Usage(2.0), Usage(3.0)).take(APP)
    assert window.memory == ()


def test_a_counter_that_fell_was_started_anew_and_has_no_rate_there():
    samples = filled(
        Usage(1.0, cpu=9 * SECOND, link=a_link(900)),
        Usage(2.0, cpu=0, link=a_link(5)),
        Usage(3.0, cpu=SECOND, link=a_link(6)),
        cores=1,
    )
    window = samples.take(APP)
    assert window.cpu == pytest.approx((100,))
    assert window.link.rx_rates == pytest.approx((1,))


@pytest.mark.parametrize("at", [1.0, 0.5])
def test_a_reading_that_is_not_later_is_dropped(at):
    samples = filled(Usage(1.0, cpu=0), Usage(at, cpu=5))
    assert samples.take(APP) is None


def test_eighty_readings_are_kept_and_the_oldest_go():
    samples = filled(
        *(Usage(float(number), cpu=number * SECOND, memory=number * MIB) for number in range(200))
    )
    window = samples.take(APP)
    assert window.memory == tuple(range(200 - CAPACITY, 200))
    assert len(window.cpu) == CAPACITY  # the reading before the oldest is where the first rate begins
    assert CAPACITY == 80


def test_containers_that_are_gone_are_forgotten():
    samples = filled(Usage(1.0, memory=MIB), Usage(2.0, memory=MIB))
    samples.keep_only({ContainerId("other")})
    assert samples.take(APP) is None


def test_a_machine_without_processors_is_refused():
    with pytest.raises(ValueError, match="cores is 0"):
        Samples(0)

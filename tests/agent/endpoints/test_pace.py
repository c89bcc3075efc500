from agent.endpoints.pace import Buckets, Pace


def test_a_burst_is_allowed_and_then_the_rate():
    buckets = Buckets(Pace(rate=10, burst=20))
    assert sum(buckets.take("a", 0.0) for _ in range(50)) == 20
    assert sum(buckets.take("a", 1.0) for _ in range(50)) == 10


def test_one_caller_does_not_use_up_what_another_may_have():
    buckets = Buckets(Pace(rate=10, burst=20))
    for _ in range(100):
        buckets.take("greedy", 0.0)
    assert buckets.take("modest", 0.0)


def test_sources_that_have_gone_do_not_pile_up():
    buckets = Buckets(Pace(rate=10, burst=20))
    for number in range(20_000):
        buckets.take(f"10.0.{number // 256}.{number % 256}", float(number))
    assert len(buckets._levels) < 5000

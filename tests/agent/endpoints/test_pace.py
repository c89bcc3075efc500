from agent.endpoints.pace import Buckets, Pace, Quiet


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


def test_a_thing_is_said_once_per_time_and_caller():
    quiet = Quiet(60.0)
    assert [quiet.may_say("a", "refused", now) for now in (0.0, 59.0, 60.0)] == [True, False, True]
    assert quiet.may_say("a", "throttled", 61.0)
    assert quiet.may_say("b", "refused", 61.0)


def test_what_was_said_long_ago_does_not_pile_up():
    quiet = Quiet(60.0)
    for number in range(20_000):
        quiet.may_say(str(number), "refused", float(number))
    assert len(quiet._said) < 5000

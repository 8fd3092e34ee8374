"""The sliding window: exact at its edges, bounded in memory."""

from __future__ import annotations

import threading

import pytest

from agent.errors import RateLimitError
from agent.ratelimit import MOST_LOGS, RateLimiter


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_hundred_and_first_request_of_a_minute_is_refused_and_told_when_to_come_back() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for remaining in reversed(range(100)):
        state = limiter.check("a", "inference", 100)
        assert state is not None and state.remaining == remaining
        clock.now += 0.1
    with pytest.raises(RateLimitError) as refused:
        limiter.check("a", "inference", 100)
    assert refused.value.retry_after == pytest.approx(50.0)
    assert refused.value.headers() == {"Retry-After": "50"}


def test_a_client_that_waits_as_told_is_served_and_refused_requests_do_not_count() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    limiter.check("a", "cluster", 1)
    for _ in range(5):
        with pytest.raises(RateLimitError) as refused:
            limiter.check("a", "cluster", 1)
    clock.now += refused.value.retry_after
    assert limiter.check("a", "cluster", 1) is not None


def test_no_burst_gets_through_at_the_edge_of_a_minute() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    clock.now += 59
    for _ in range(10):
        limiter.check("a", "inference", 10)
    clock.now += 2  # a fixed window would start afresh here
    with pytest.raises(RateLimitError):
        limiter.check("a", "inference", 10)


def test_keys_and_ports_are_counted_apart() -> None:
    limiter = RateLimiter(clock=Clock())
    limiter.check("a", "inference", 1)
    assert limiter.check("b", "inference", 1) is not None
    assert limiter.check("a", "cluster", 1) is not None


def test_a_limit_of_zero_is_no_limit() -> None:
    limiter = RateLimiter(clock=Clock())
    assert all(limiter.check("a", "inference", 0) is None for _ in range(2000))


def test_a_limit_lowered_under_way_holds_at_once_and_its_wait_is_long_enough() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for _ in range(10):
        limiter.check("a", "inference", 10)
        clock.now += 1
    with pytest.raises(RateLimitError) as refused:
        limiter.check("a", "inference", 3)
    clock.now += refused.value.retry_after
    assert limiter.check("a", "inference", 3) is not None


def test_many_threads_together_get_exactly_the_limit_through() -> None:
    limiter = RateLimiter(clock=Clock())
    passed = []

    def work() -> None:
        for _ in range(50):
            try:
                passed.append(limiter.check("a", "inference", 100))
            except RateLimitError:
                continue

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(passed) == 100


def test_a_flood_of_addresses_does_not_fill_the_memory() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for i in range(MOST_LOGS + 500):
        limiter.check(f"address:{i}", "inference", 600)
    assert len(limiter._logs) == MOST_LOGS
    clock.now += 61
    limiter.check("a", "inference", 600)
    assert len(limiter._logs) == 1

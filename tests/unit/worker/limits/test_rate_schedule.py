"""The times at which jobs of a rate may start: each once, evenly spread, none passes unused while somebody waits."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.model.definitions.rate import Rate, parse_rate
from jetq.worker.limits.rate_schedule import RateSchedule

pytestmark = pytest.mark.anyio


def test_rates_are_read() -> None:
    assert parse_rate("50/s") == Rate(50, 1.0)
    assert parse_rate("100 / m").every == pytest.approx(0.6)
    assert [str(parse_rate(text)) for text in ("1/s", "2/m", "3/h", "4/d")] == ["1/s", "2/m", "3/h", "4/d"]
    for wrong in ("", "5", "/s", "0/s", "-1/s", "1.5/s", "5/w", "5/10s", 5, None):
        with pytest.raises(ValueError, match="rate is a number from 1 and a unit"):
            parse_rate(wrong)


@pytest.mark.parametrize("rate", ["50/s", "7/s", "30/m"])
async def test_several_workers_share_one_rate(rate: str) -> None:
    clock = FakeClock(1_000_000.0)
    store = MemoryStore(clock)
    paces = [RateSchedule(MemoryBroker(store), "rate.tests:mail~-", parse_rate(rate)) for _ in range(3)]
    starts: list[float] = []
    seconds, step = 30.0, 0.01
    while clock.now() < 1_000_000.0 + seconds:
        for pace in paces:
            await pace.take(5)
            while pace.ready:
                pace.use()
                starts.append(clock.now())
        clock.advance(step)
    every = parse_rate(rate).every
    allowed = seconds / every
    assert allowed * 0.97 - 1 <= len(starts) <= allowed + 1
    for first, later in zip(starts, starts[10:], strict=False):
        assert later - first >= 10 * every - 2 * step


async def test_what_nobody_used_is_not_made_up_for() -> None:
    clock = FakeClock(1_000_000.0)
    pace = RateSchedule(MemoryBroker(MemoryStore(clock)), "rate.a", parse_rate("10/s"))
    for _ in range(2):
        await pace.take(50)
        ready = pace.ready
        assert ready == 1  # and not 600, the second time
        pace.use()
        clock.advance(60)


async def test_a_slow_rate_is_not_asked_for_again_and_again() -> None:
    clock = FakeClock(1_000_000.0)
    broker = MemoryBroker(MemoryStore(clock))
    reads = 0
    read = broker.read_cell

    async def counted(name: str):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += 1
        return await read(name)

    broker.read_cell = counted  # type: ignore[method-assign]
    pace, other = (RateSchedule(broker, "rate.a", parse_rate("6/m")) for _ in range(2))
    await pace.take(5)
    pace.use()
    for _ in range(100):
        await other.take(5)
        clock.advance(0.05)
    assert other.ready < 1
    assert other.seconds_until(5) > 4
    assert reads < 5
    clock.advance(5)
    await other.take(5)
    clock.advance(0.3)
    assert other.ready == 1


async def test_times_taken_at_once_are_never_the_same() -> None:
    clock = FakeClock(1_000_000.0)
    store = MemoryStore(clock)
    paces = [RateSchedule(MemoryBroker(store), "rate.a", parse_rate("100/s")) for _ in range(10)]
    await asyncio.gather(*(pace.take(2) for pace in paces))
    times = sorted(time for pace in paces for time in pace.taken)
    assert len(times) == 20
    assert min(later - first for first, later in pairwise(times)) == pytest.approx(0.01, rel=0.01)


async def test_a_slow_rate_loses_no_time_to_a_moment_of_business() -> None:
    clock = FakeClock(1_000_000.0)
    pace = RateSchedule(MemoryBroker(MemoryStore(clock)), "rate.a", parse_rate("1/h"))
    await pace.take(1)
    clock.advance(1.5)  # the loop was blocked
    assert pace.ready == 1

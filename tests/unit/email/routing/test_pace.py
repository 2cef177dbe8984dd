"""The pace at which a provider gets mails: of many workers together, by a clock and records that the tests have."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq import BrokerUnavailable, Record
from jetq_email.errors import AtRate
from jetq_email.rates import interval
from jetq_email.routing import pace as pace_module
from jetq_email.routing.pace import Pace

START = 1000.0


class World:
    """A clock, and one record that all paces see."""

    def __init__(self) -> None:
        self.time = START
        self.record: Record | None = None
        self.version = 0
        self.away = False
        self.writes = 0

    def now(self) -> float:
        return self.time

    async def aget(self, key: str) -> Record | None:
        if self.away:
            raise BrokerUnavailable("nobody answers")
        record = self.record
        await asyncio.sleep(0)  # so that others come in between
        return record

    async def aput(self, key: str, value: bytes, *, ttl: float, expected: int) -> int | None:
        if expected != (0 if self.record is None else self.record.version):
            return None
        assert ttl > 0
        self.version += 1
        self.writes += 1
        self.record = Record(key, value, self.version, datetime.now(UTC))
        return self.version


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(pace_module, "Records", lambda _: made)
    monkeypatch.setattr(pace_module, "running_job", lambda: SimpleNamespace())
    return made


async def turns(pace: Pace, world: World, count: int) -> list[float]:
    """The instants of up to `count` turns, until one is too far away."""
    found: list[float] = []
    for _ in range(count):
        try:
            found.append(world.time + await pace.turn())
        except AtRate:
            break
    return found


@pytest.mark.parametrize(("rate", "seconds"), [("14/s", 1 / 14), ("60/m", 1.0), ("10/h", 360.0), ("1/d", 86400.0)])
def test_a_rate_is_an_interval(rate: str, seconds: float) -> None:
    assert interval(rate) == pytest.approx(seconds)


def test_all_workers_together_keep_the_pace(world: World) -> None:
    """Guarantee: of all workers together a provider gets no more mails than its rate, evenly spread."""

    async def run() -> list[float]:
        paces = [Pace("ses", 0.1) for _ in range(5)]
        found: list[float] = []
        for _ in range(40):
            taken = await asyncio.gather(*(turns(pace, world, 3) for pace in paces))
            found += [instant for each in taken for instant in each]
            world.time += 0.25
        return found

    instants = sorted(asyncio.run(run()))
    assert len(instants) == len({round(each, 3) for each in instants})
    assert all(later - earlier > 0.0999 for earlier, later in pairwise(instants))
    assert len(instants) > 80  # of a hundred that there were in ten seconds
    assert world.writes < len(instants) / 2  # some are taken at once


@given(steps=st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 3.0)), min_size=1, max_size=60))
def test_whoever_comes_whenever(steps: list[tuple[int, float]]) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pace_module, "Records", lambda _: world)
        patched.setattr(pace_module, "running_job", lambda: SimpleNamespace())

        async def run() -> list[float]:
            paces = [Pace("ses", 0.5) for _ in range(3)]
            found: list[float] = []
            for which, passes in steps:
                found += await turns(paces[which], world, 2)
                world.time += passes
            return found

        instants = sorted(asyncio.run(run()))
    assert all(later - earlier > 0.499 for earlier, later in pairwise(instants))


def test_what_was_not_used_is_not_made_up_for(world: World) -> None:
    async def run() -> list[float]:
        pace = Pace("ses", 0.1)
        await pace.turn()
        world.time += 3600.0
        return await turns(pace, world, 8)

    first, *others = asyncio.run(run())
    assert first == world.time
    assert others == pytest.approx([world.time + 0.1 * place for place in range(1, 8)])


def test_who_would_wait_too_long_is_told_how_long(world: World) -> None:
    async def run() -> None:
        pace = Pace("ses", interval("10/h"))
        assert await pace.turn() == 0.0
        for _ in range(3):  # and takes no turn of others
            with pytest.raises(AtRate, match="ses has got as many mails as it is to get") as caught:
                await Pace("ses", interval("10/h")).turn()
            assert caught.value.after == pytest.approx(360.0)
        world.time += 360.0
        assert await pace.turn() == 0.0

    asyncio.run(run())


def test_without_a_broker_each_keeps_the_pace_for_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[float]:
        world.away = True
        return await turns(Pace("ses", 0.1), world, 12)

    found = asyncio.run(run())
    assert found == pytest.approx([world.time + 0.1 * place for place in range(12)])
    assert "the pace of ses is kept by this worker alone just now: nobody answers" in caplog.text


@pytest.mark.parametrize("value", [b"", b"soon", b"nan", b"inf", b"1e300", b"\xff"])
def test_a_record_that_cannot_be_says_nothing(world: World, value: bytes) -> None:
    world.record = Record("pace.ses", value, 7, datetime.now(UTC))
    world.version = 7
    assert asyncio.run(Pace("ses", 1.0).turn()) == 0.0


def test_mails_of_one_worker_ask_together(world: World) -> None:
    async def run() -> list[float]:
        pace = Pace("ses", 0.1)
        return await asyncio.gather(*(pace.turn() for _ in range(5)))

    assert asyncio.run(run()) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert world.writes == 1


def test_who_is_always_too_late_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(world, "aput", refuse)
    with pytest.raises(AtRate, match="the turns of ses are taken by others"):
        asyncio.run(Pace("ses", 0.1).turn())

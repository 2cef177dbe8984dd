"""The gate of a limit alone: who is let in, in which order, and that it rests while nothing happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import jetq.worker.limits.gate as gate_module
from jetq.errors import NotStored
from jetq.memory import MemoryBroker, MemoryStore
from jetq.model.cell import Cell
from jetq.model.definitions.rate import parse_rate
from jetq.worker.limits.gate import Gate
from jetq.worker.limits.limit_share import LimitShare
from jetq.worker.limits.presence import Presence
from jetq.worker.limits.rate_schedule import RateSchedule
from tests.apps.staying import stays_so_for

pytestmark = pytest.mark.anyio


class Door:
    """A gate of a worker with `places`, and what it asks of that worker."""

    def __init__(
        self, *, limit: int | None = None, rate: str | None = None, places: int = 100, lasts: float = 30.0
    ) -> None:
        self.store = MemoryStore()
        self.broker = MemoryBroker(self.store)
        self.places = places
        self.busy = self.waits = self.idle = 0
        self.line: list[int] = []
        self.told: list[int | None] = []
        self.presence = Presence(lasts, lasts / 60)
        share = None
        if limit is not None:
            share = LimitShare(self.broker, self.presence, "slots.a~-", limit, self.told.append)
        self.gate = Gate(
            "a~-",
            share=share,
            schedule=None if rate is None else RateSchedule(self.broker, "rate.a~-", parse_rate(rate)),
            now=self.broker.now,
            free_slots=lambda: self.places - self.busy + self.waits,
            on_waiting_change=self._count,
            fetch_parked=self._call_up,
            on_idle=self._on_idle,
        )
        self.order: list[int] = []
        self._entering: dict[int, asyncio.Task[None]] = {}

    def _count(self, change: int) -> None:
        self.waits += change

    async def _call_up(self, missing: int) -> int:
        self.line.append(missing)
        return 0

    def _on_idle(self, gate: Gate) -> None:
        assert gate is self.gate
        self.idle += 1

    @property
    def looks(self) -> int:
        return self.gate.looks

    def come(self, number: int = 0, *, counted: bool = True) -> asyncio.Task[None]:
        """A job that the worker has taken comes to the gate."""
        self.busy += counted

        async def enter() -> None:
            await self.gate.enter(counted=counted)
            self.order.append(number)

        def entered(task: asyncio.Task[None]) -> None:
            del self._entering[number]
            self.busy -= counted and task.cancelled()

        task = self._entering[number] = asyncio.create_task(enter())
        task.add_done_callback(entered)
        return task

    def give_up(self, number: int) -> None:
        """That job is cancelled, if it is not inside."""
        if number in self._entering:
            self._entering[number].cancel()

    def go(self, *, counted: bool = True) -> None:
        """A job that was let in has ended."""
        self.busy -= counted
        self.gate.leave()
        self.gate.resume()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def door(
    *, limit: int | None = None, rate: str | None = None, places: int = 100, lasts: float = 30.0
) -> AsyncIterator[Door]:
    """A door; when all have left it nothing of it stays."""
    made = Door(limit=limit, rate=rate, places=places)
    yield made
    await made.until(lambda: made.gate.share is None or made.gate.share.holds_none)
    made.gate.wake()
    await made.until(lambda: made.idle == 1)
    assert made.waits == made.busy == made.gate.waiting == made.gate.running == 0
    assert "slots.a~-" not in made.store.cells


async def test_they_are_let_in_in_the_order_they_came() -> None:
    async with door(limit=1) as d:
        tasks = [d.come(n) for n in range(20)]
        for count in range(1, 21):
            await d.until(lambda count=count: len(d.order) == count)  # type: ignore[misc]
            d.go()
        await asyncio.gather(*tasks)
    assert d.order == list(range(20))


async def test_one_that_goes_away_while_it_waits_leaves_the_others_their_order() -> None:
    async with door(limit=1) as d:
        tasks = [d.come(n) for n in range(5)]
        await d.until(lambda: d.order == [0])
        assert d.waits == d.gate.waiting == 4
        for n in (1, 3):
            tasks[n].cancel()
        await asyncio.wait([tasks[1], tasks[3]])
        assert d.waits == d.gate.waiting == 2
        for left in ([0], [0, 2], [0, 2, 4]):
            await d.until(lambda left=left: d.order == left)  # type: ignore[misc]
            d.go()
    assert tasks[1].cancelled()
    assert tasks[3].cancelled()


async def test_one_that_goes_away_just_as_it_is_let_in_passes_its_slot_on() -> None:
    async with door(limit=1) as d:
        first, second, third = (d.come(n) for n in range(3))
        await first
        d.go()  # lets in the second, which has not noticed
        assert d.gate.waiting == 1
        assert d.gate.running == 1
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        await third
        d.go()
    assert d.order == [0, 2]


async def test_one_that_goes_away_before_its_turn_is_passed_over_in_the_same_moment() -> None:
    async with door(limit=1) as d:
        first, second, third = (d.come(n) for n in range(3))
        await first
        second.cancel()  # not noticed before the slot comes free
        d.go()
        await third
        d.go()
        assert second.cancelled()
    assert d.order == [0, 2]


@pytest.mark.parametrize("keywords", [{"limit": 3}, {"rate": "500/s"}, {"limit": 2, "rate": "1000/s"}, {}], ids=str)
@pytest.mark.parametrize("seed", range(3))
async def test_whoever_comes_and_goes_all_have_their_turn(keywords: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    inside = most = 0
    async with door(**keywords, places=4) as d:

        async def job(n: int) -> None:
            nonlocal inside, most
            await d.come(n, counted=n % 7 != 0)
            inside += 1
            most = max(most, inside)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            inside -= 1
            d.go(counted=n % 7 != 0)

        jobs = []
        for n in range(120):
            jobs.append(asyncio.create_task(job(n)))
            await asyncio.sleep(0)
            if chance.random() < 0.3:
                d.give_up(chance.randrange(n + 1))
        results = await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 20)
    gave_up = {n for n, result in enumerate(results) if isinstance(result, asyncio.CancelledError)}
    assert [result for result in results if result is not None] == [results[n] for n in sorted(gave_up)]
    assert set(d.order) == set(range(120)) - gave_up
    assert gave_up
    assert most <= keywords.get("limit", 120)


async def test_a_worker_without_room_lets_nobody_in_until_it_has_some() -> None:
    async with door(limit=5, places=2) as d:
        tasks = [d.come(n) for n in range(4)]
        await d.until(lambda: d.order == [0, 1])
        assert d.gate.share is not None
        await d.until(lambda: d.gate.share is not None and d.gate.share.held == 2)  # and takes none that it cannot use
        suspect = d.come(9, counted=False)
        for count in (3, 4, 5):
            d.go()
            await d.until(lambda count=count: len(d.order) >= count)  # type: ignore[misc]
        await asyncio.gather(*tasks, suspect)
        assert d.order == [0, 1, 2, 3, 9]
        d.go()
        d.go(counted=False)


async def test_a_pause_ends_by_itself() -> None:
    async with door() as d:
        d.gate.paused_until = d.broker.now() + 0.3
        task = d.come()
        await asyncio.sleep(0)
        assert d.gate.reason == "pause"
        await d.until(task.done)
        assert d.broker.now() >= d.gate.paused_until
        d.go()


async def _looks_in(d: Door, seconds: float) -> int:
    before = d.looks
    await asyncio.sleep(seconds)
    return d.looks - before


async def test_while_all_slots_are_in_use_the_keeper_rests() -> None:
    async with door(limit=1) as d:
        await d.come(0)
        waiting = [d.come(n) for n in range(1, 4)]
        await d.until(lambda: d.gate.waiting == 3)
        assert await _looks_in(d, 0.3) < 10
        for task in waiting:
            d.go()
            await task
        d.go()


async def test_while_another_worker_has_all_slots_the_keeper_rests_and_then_gets_one() -> None:
    async with door(limit=1) as d:
        other = Presence(30.0, 0.5)
        await other.establish(d.broker)
        version = await d.broker.write_cell("slots.a~-", b'{"%s":1}' % other.name.encode(), expected=0)
        assert version is not None
        task = d.come()
        await d.until(lambda: d.told == [0])
        assert await _looks_in(d, 0.3) < 10
        assert not task.done()
        await other.withdraw(d.broker)
        await d.until(task.done)
        d.go()


async def test_during_a_pause_the_keeper_rests() -> None:
    async with door(limit=1, rate="1000/s") as d:
        d.gate.paused_until = d.broker.now() + 0.6
        task = d.come()
        await asyncio.sleep(0)
        assert await _looks_in(d, 0.4) < 10
        await task
        d.go()


async def test_while_its_slots_cannot_be_given_back_the_gate_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_RETRY_AFTER", 0.1)
    async with door(limit=1) as d:
        await d.come()
        broker = d.broker
        drop, fails = broker.drop_cell, 2

        async def unwilling(cell: Cell) -> bool:
            nonlocal fails
            if fails:
                fails -= 1
                raise NotStored("lost")
            return await drop(cell)

        broker.drop_cell = unwilling  # type: ignore[method-assign]
        d.go()
        await d.until(lambda: not fails)
        assert d.idle == 0


async def test_a_gate_that_nobody_needs_is_forgotten_at_once() -> None:
    d = Door(limit=1)
    await d.come()
    d.go()
    await d.until(lambda: d.idle == 1)


async def test_a_gate_with_a_line_asks_for_it_now_and_then() -> None:
    async with door(limit=1) as d:
        d.gate.has_parked = True
        d.gate.wake()
        await d.until(lambda: len(d.line) > 0)
        assert await _looks_in(d, 0.3) < 30
        assert d.idle == 0
        d.gate.has_parked = False
        d.gate.wake()


async def test_a_busy_worker_is_not_taken_for_the_limit() -> None:
    async with door(limit=5, places=2) as d:
        tasks = [d.come(n) for n in range(3)]
        await d.until(lambda: d.order == [0, 1])
        assert d.gate.reason == "slots"
        d.go()
        await tasks[2]
        d.go()
        d.go()


async def test_while_all_slots_are_in_use_a_rate_does_not_keep_the_keeper_awake() -> None:
    async with door(limit=1, rate="100/s") as d:
        await d.come(0)
        waiting = d.come(1)
        await asyncio.sleep(0.05)
        assert await _looks_in(d, 0.5) < 50
        d.go()
        await waiting
        d.go()


async def test_who_has_no_slot_takes_no_times_from_those_who_have() -> None:
    async with door(limit=1, rate="10/s") as d:
        await d.come(0)
        waiting = [d.come(n) for n in range(1, 30)]
        await asyncio.sleep(0.5)
        pace = RateSchedule(MemoryBroker(d.store), "rate.a~-", parse_rate("10/s"))
        await pace.take(1)
        assert pace.ready == 1  # nobody has started for half a second
        for task in waiting:
            task.cancel()
        d.go()


async def test_a_slow_rate_does_not_keep_the_keeper_awake() -> None:
    async with door(rate="2/s") as d:
        await d.come(0)
        last = d.come(1)
        assert await _looks_in(d, 0.45) < 20
        await last
        d.go()
        d.go()


async def test_a_worker_without_room_calls_nobody_up() -> None:
    async with door(limit=1, places=1) as d:
        d.busy = 1
        d.gate.has_parked = True
        d.gate.wake()
        await stays_so_for(0.3, lambda: d.line == [])
        d.busy = 0
        await d.until(lambda: d.line != [])
        d.gate.has_parked = False
        d.gate.wake()


async def test_those_that_run_while_the_sign_of_life_lapses_have_slots_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "_RETRY_AFTER", 0.1)
    d = Door(limit=2, lasts=0.6)
    await d.come()
    share, name = d.gate.share, d.presence.name
    assert share is not None and share.held == 1
    await d.until(lambda: d.presence.name != name and share.held == 1)
    d.go()
    await d.until(lambda: d.idle == 1)


@pytest.mark.parametrize("keywords", [{"limit": 50}, {"rate": "1000/s"}, {}], ids=str)
async def test_never_more_are_inside_than_the_worker_has_places(keywords: dict[str, Any]) -> None:
    inside = most = 0
    full = asyncio.Event()
    async with door(**keywords, places=2) as d:

        async def job(n: int) -> None:
            nonlocal inside, most
            await d.come(n)
            inside += 1
            most = max(most, inside)
            if inside == 2:
                full.set()
            await full.wait()  # by a rate the second comes a millisecond later
            await asyncio.sleep(0)
            inside -= 1
            d.go()

        await asyncio.wait_for(asyncio.gather(*(job(n) for n in range(20))), 20)
    assert most == 2


async def test_nobody_overtakes_who_waits() -> None:
    async with door(places=1) as d:
        await d.come(0)
        waiting, suspect = d.come(1), d.come(2, counted=False)  # for which there is room always
        await asyncio.sleep(0)
        assert d.gate.waiting == 2
        d.go()
        await asyncio.gather(waiting, suspect)
        d.go()
        d.go(counted=False)
    assert d.order == [0, 1, 2]


async def test_a_gate_stays_while_it_has_a_line() -> None:
    async with door() as d:
        d.gate.has_parked = True
        await d.come()
        d.go()
        await d.until(lambda: len(d.line) > 1)
        assert d.idle == 0
        d.gate.has_parked = False
        d.gate.wake()


async def test_who_leaves_slots_to_others_rests_too() -> None:
    async with door(limit=3) as d:
        other = Presence(30.0, 0.5)
        await other.establish(d.broker)
        assert await d.broker.write_cell("slots.a~-", b'{"%s":1}' % other.name.encode(), expected=0) is not None
        waiting = [d.come(n) for n in range(4)]
        await d.until(lambda: len(d.order) == 2)
        assert d.gate.share is not None
        d.gate.share.on_notice("another", 0)
        d.gate.wake()
        assert await _looks_in(d, 0.3) < 10
        for task in waiting[2:]:
            task.cancel()
        d.go()
        d.go()
        await other.withdraw(d.broker)
        await d.until(lambda: d.idle == 1)
        await d.broker.write_cell("slots.a~-", b"{}")
        cell = await d.broker.read_cell("slots.a~-")
        assert cell is not None
        await d.broker.drop_cell(cell)

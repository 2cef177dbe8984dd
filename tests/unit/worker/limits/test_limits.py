"""Parked jobs and pauses of limits, at the moments when two workers meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.model.cell import Cell
from jetq.worker.limits.gate import Gate
from jetq.worker.limits.notices import Notices
from jetq.worker.limits.parking import Parking
from jetq.worker.limits.pauses import Pauses
from jetq.worker.limits.presence import Presence
from tests.apps.staying import stays_so_for
from tests.apps.working import until

pytestmark = pytest.mark.anyio

GATE = "a~-"


class _BrokerMarkedMeanwhile(MemoryBroker):
    """Another worker parks a job, and marks the gate, right after this one has found none."""

    async def oldest_cell(self, below: str) -> Cell | None:
        seen = await super().oldest_cell(below)
        await self.write_cell(f"lines.{GATE}", b"another")
        await asyncio.sleep(0)  # until the watch has told of it
        return seen


def _gate(broker: MemoryBroker) -> Gate:
    async def none(missing: int) -> int:
        return 0

    def ignore(_: object) -> None: ...

    return Gate(
        GATE,
        share=None,
        schedule=None,
        now=broker.now,
        free_slots=lambda: 5,
        on_waiting_change=ignore,
        fetch_parked=none,
        on_idle=ignore,
    )


@pytest.mark.parametrize(
    ("kind", "left"), [(MemoryBroker, False), (_BrokerMarkedMeanwhile, True)], ids=["none", "one-meanwhile"]
)
async def test_a_gate_for_which_a_job_is_parked_while_none_was_found_is_not_forgotten(
    kind: Callable[[MemoryStore], MemoryBroker], left: bool
) -> None:
    broker = kind(MemoryStore())
    presence = Presence(30.0, 0.5)
    gate = _gate(broker)
    notices = Notices(broker, presence, lambda notice: None)
    parking = Parking(broker, notices, signature=lambda: "me", find_gate={GATE: gate}.get)
    await parking.listen()
    gate.has_parked = True
    assert await parking.call_up(gate, 1) == 0
    assert gate.has_parked is left
    gate.close()


async def _paused(broker: MemoryBroker) -> Pauses:
    pauses = Pauses(broker, {"a"}, lambda gate, until: None)
    await pauses.listen()
    return pauses


async def test_a_pause_whose_end_comes_early_by_one_clock_ends_all_the_same() -> None:
    clock = FakeClock(1_000_000.0)
    pauses = await _paused(MemoryBroker(MemoryStore(clock)))
    await pauses.begin(GATE, 0.1)
    await until(lambda: pauses.concern("a"))
    await stays_so_for(0.15, lambda: pauses.concern("a"))  # the loop's clock is past the end, the broker's is not
    clock.advance(0.2)
    await until(lambda: not pauses.concern("a"))
    assert pauses.end_of(GATE) == 0.0


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    broker = MemoryBroker(MemoryStore(FakeClock(1_000_000.0)))
    one, other = await _paused(broker), await _paused(broker)
    await broker.write_cell(f"pause.{GATE}", b"1000060")
    await broker.write_cell(f"pause.{GATE}", b"1000002")
    await until(lambda: one.concern("a") and other.concern("a"))
    assert one.end_of(GATE) == other.end_of(GATE) == 1_000_060.0

"""What a worker hears of limits: lines that begin, and pauses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jetq.memory import MemoryBroker, MemoryStore
from jetq.model.cell import Cell
from jetq.worker.limits.limits import Limits
from jetq.worker.limits.presence import Presence

pytestmark = pytest.mark.anyio


def _limits(store: MemoryStore) -> Limits:
    return Limits(MemoryBroker(store), Presence(30.0, 0.5), {}, hold=5, room=lambda: 5)


async def test_a_line_that_begins_while_it_was_seen_empty_is_not_forgotten() -> None:
    store = MemoryStore()
    limits = _limits(store)

    class Gate:
        has_parked, parking, name = True, 0, "a~-"

        def wake(self) -> None: ...

    gate: Any = Gate()
    limits._gates["a~-"] = gate
    read = limits._broker.first_cell

    async def first(below: str) -> Cell | None:
        seen = await read(below)
        limits._on_line("a~-", b"another")
        return seen

    limits._broker.first_cell = first  # type: ignore[method-assign]
    assert await limits._call_up("a~-", 1) == 0
    assert gate.has_parked
    await asyncio.sleep(0)


class AnyTask(dict[str, Any]):
    def __contains__(self, name: object) -> bool:
        return True


async def test_a_pause_whose_end_comes_early_by_one_clock_ends_all_the_same() -> None:
    limits = _limits(MemoryStore())
    limits._tasks = AnyTask()
    now = limits._broker.now
    limits._on_pause("a~-", b"%.3f" % (now() + 0.1))
    limits._broker.now = lambda: now() - 0.01  # type: ignore[method-assign]
    await asyncio.sleep(0.3)
    assert not limits._pauses
    assert not limits._paused


async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    limits = _limits(MemoryStore())
    limits._tasks = AnyTask()
    now = limits._broker.now()
    limits._on_pause("a~-", b"%.3f" % (now + 60))
    limits._on_pause("a~-", b"%.3f" % (now + 2))
    assert limits._pauses["a~-"] > now + 50

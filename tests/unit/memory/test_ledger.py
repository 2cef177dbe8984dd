"""What the ledger of the memory broker forgets by its clock, and what it does not wait for without an end."""

from __future__ import annotations

import pytest

from jetq.broker.numbers import COUNT_TTL
from jetq.errors import BrokerUnavailable
from jetq.memory import FakeClock, MemoryBroker
from jetq.memory import ledger as memory_ledger
from jetq.model.cell import NewEntry

pytestmark = pytest.mark.anyio


async def test_a_count_is_forgotten_eight_days_after_it_was_last_counted_up() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    for _ in range(3):
        await broker.count_up("count.life1.a", 1)
        await broker.count_up("count.life1.b", 1)
        clock.advance(COUNT_TTL - 1)
    assert await broker.count_up("count.life1.a", 1) == 4
    clock.advance(2)
    assert await broker.count_up("count.life1.a", 1) == 5
    assert await broker.count_up("count.life1.b", 1) == 1


async def test_an_answer_that_stays_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_ledger, "ANSWER_WITHIN", 0.1)
    broker = MemoryBroker()
    last = await broker.write_entry("flow.life1.size.a", b"")
    assert last == 1
    assert (await broker.standing_entries("flow.>", at_least=2)).sequence == 1


async def test_a_ledger_is_of_the_store_and_closed_with_the_broker() -> None:
    broker = MemoryBroker()
    other = MemoryBroker(broker.store)
    await broker.write_entries([NewEntry("plan.q.f", b"1"), NewEntry("plan.q.g", b"2", ttl=60)])
    await broker.close()
    for use in (broker.read_entry("plan.q.f"), broker.count_up("count.a", 1), broker.purge_entries("plan.>")):
        with pytest.raises(BrokerUnavailable, match="closed"):
            await use
    assert len((await other.standing_entries("plan.>")).names) == 2

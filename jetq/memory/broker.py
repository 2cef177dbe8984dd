"""The memory broker: jetq's verbs on a `MemoryStore`, with a module for each role."""

from __future__ import annotations

from jetq.memory.cells import Cells
from jetq.memory.clock import FakeClock
from jetq.memory.consuming import Consuming
from jetq.memory.dead_letters import DeadLetters
from jetq.memory.enqueueing import Enqueueing
from jetq.memory.fleet import Fleet
from jetq.memory.ledger import Ledger
from jetq.memory.queues import Queues
from jetq.memory.records import Records
from jetq.memory.results import Results
from jetq.memory.schedules import Schedules
from jetq.memory.store import MemoryStore

__all__ = ["MemoryBroker"]


class MemoryBroker(Enqueueing, Consuming, Results, Queues, DeadLetters, Schedules, Cells, Records, Ledger, Fleet):
    """See `jetq.broker.Broker`. Brokers on one store see the same queues, also from several threads and loops.

    store: the store of this broker; None makes a new store. clock: the clock of a new store; None takes the real time.
        The clock moves what the store does, but not how long a caller of `wait_result` waits.
    """

    def __init__(self, store: MemoryStore | None = None, *, clock: FakeClock | None = None) -> None:
        if store is not None and clock is not None:
            raise TypeError("the store has its clock already")
        super().__init__(MemoryStore(clock) if store is None else store)

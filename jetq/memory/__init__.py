"""jetq's broker in memory, for tests. It has the same verbs, the same guarantees while the process lives, and a clock
that a test can move."""

from __future__ import annotations

from jetq.memory.broker import MemoryBroker
from jetq.memory.clock import FakeClock
from jetq.memory.store import MemoryStore

__all__ = ["FakeClock", "MemoryBroker", "MemoryStore"]

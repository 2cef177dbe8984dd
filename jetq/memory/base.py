"""The base of every part of the memory broker: the store, the clock, and what is undone when the broker is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from jetq.errors import BrokerUnavailable
from jetq.memory.feed import MemoryFeed
from jetq.memory.store import MemoryStore, QueueStore

__all__ = ["Base", "settle"]

T = TypeVar("T")


class Base:
    """What the parts of the memory broker share, and the role `jetq.broker.clock.Clock`."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.undo: list[Callable[[], None]] = []
        self.feeds: list[MemoryFeed] = []
        self.waiting: set[asyncio.Future[Any]] = set()
        self._closed = False

    def use(self) -> None:
        """Run the actions of the store that are due by now. Raises BrokerUnavailable if this broker is closed."""
        if self._closed:
            raise BrokerUnavailable("this broker is closed")
        self.store.run_due()

    def queue(self, name: str) -> QueueStore:
        """Return the queue of the name, after the actions that are due by now. The first use makes the queue.

        Raises BrokerUnavailable if this broker is closed.
        """
        self.use()
        return self.store.queue(name)

    def now(self) -> float:
        return self.store.now()

    @property
    def knows_time(self) -> bool:
        return True

    async def time(self, queue: str, *, make: bool = True) -> float:
        return self.store.now()

    async def arrival(self, arriving: asyncio.Future[T | None], timeout: float) -> T | None:
        """Wait for the result of `arriving`. Return None after `timeout` seconds, or when this broker is closed."""
        self.waiting.add(arriving)
        try:
            async with asyncio.timeout(timeout):
                return await arriving
        except TimeoutError:
            return None
        finally:
            self.waiting.discard(arriving)

    async def close(self) -> None:
        self._closed = True
        with self.store.lock:
            for undo in self.undo:
                undo()
            self.undo.clear()
        for feed in self.feeds:
            await feed.stop()
        for waiting in self.waiting:
            settle(waiting, None)


def settle(future: asyncio.Future[T | None], value: T | None) -> None:
    """Set the result of `future`, unless it is set already. A caller who waits for something takes it from `future`."""
    if not future.done():
        future.set_result(value)

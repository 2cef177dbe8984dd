"""Feeds of the memory broker. A feed delivers on the event loop on which it was made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jetq.memory.store import MemoryStore
from jetq.model.job import Delivery, Level

__all__ = ["MemoryFeed"]


class MemoryFeed:
    """A flow of deliveries from one queue, on the loop on which the feed was made. See `jetq.broker.consuming.Feed`."""

    def __init__(
        self, store: MemoryStore, queue: str, deliver: Callable[[Delivery], None], level: Level = "normal"
    ) -> None:
        self.level: Level = level
        self._store = store
        self._queue = queue
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._under_way = 0
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        with store.lock:
            store.queue(queue).takers.append(self)
            if store.clock is None:
                store.wakers.append(self._wake)
        self._arm()

    def ask(self, slots: int) -> None:
        """See `jetq.broker.consuming.Feed.ask`."""
        with self._store.lock:
            if not self._stopped:
                self._asked = max(self._asked, slots)
                self._store.run_due()
                self._store.queue(self._queue).hand_out()

    @property
    def asked(self) -> int:
        """How many deliveries were asked for and have not arrived yet."""
        return self._asked

    @property
    def problem(self) -> str | None:
        """See `jetq.broker.consuming.Feed.problem`. None: nothing can come between a worker and memory."""
        return None

    @property
    def left(self) -> int:
        """See `jetq.broker.consuming.Feed.left`."""
        with self._store.lock:
            return self._store.queue(self._queue).left(self.level)

    def expect(self, by: str | None) -> None:
        """See `jetq.broker.consuming.Feed.expect`. Do nothing: the memory is always the same."""

    async def stop(self) -> None:
        """See `jetq.broker.consuming.Feed.stop`."""
        with self._store.lock:
            self._stopped = True
            takers = self._store.queue(self._queue).takers
            if self in takers:
                takers.remove(self)
            if self._wake in self._store.wakers:
                self._store.wakers.remove(self._wake)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # the loop calls in order, so deliveries under way have arrived after this

    @property
    def wants(self) -> int:
        """How many more deliveries may be sent to the loop."""
        return self._asked - self._under_way

    def take(self, delivery: Delivery) -> bool:
        """Send `delivery` to the feed's loop. Return False if the loop was closed without a call of `stop`."""
        try:
            self._loop.call_soon_threadsafe(self._arrive, delivery)
        except RuntimeError:  # the loop is closed
            return False
        self._under_way += 1
        return True

    def _arrive(self, delivery: Delivery) -> None:
        with self._store.lock:
            self._under_way -= 1
            self._asked -= 1
        self._deliver(delivery)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arm)
        except RuntimeError:  # the loop is closed
            self._stopped = True

    def _arm(self) -> None:
        """Set a timer for the next due action of the store, if the store has the real clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._stopped or self._store.clock is not None else self._store.next_due()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._store.now()), self._on_due)

    def _on_due(self) -> None:
        self._store.run_due()
        self._arm()

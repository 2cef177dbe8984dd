"""Keeping deliveries with the worker that holds them: renewals from a thread and a connection of their own.

A thread, because user code may block the event loop; its own connection, because the loop's is then blocked too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any

from jetq.broker import Broker
from jetq.errors import BrokerError
from jetq.model import Delivery
from jetq.own_threads import own_thread
from jetq.presence import Presence
from jetq.session import Connect

__all__ = ["Leases"]

_log = logging.getLogger("jetq.worker")

_RETRY_AFTER = 1.0
_MARGIN = 0.5
"""Seconds before its end, at most a tenth of it, at which a lease counts as lapsed: an ack needs time to arrive."""


class Leases:
    """The deliveries a worker holds, renewed at a third of the lease until they are dropped or may not be any longer.

    `connect` makes the broker on the thread's own loop. `lease` is the broker's, in seconds. presence: the worker's,
    renewed with them once it was given.

    Guarantee: tests/integration/test_worker_leases.py: while its worker lives, no job is delivered again, however long
    it runs or blocks the event loop.
    """

    def __init__(self, connect: Connect, lease: float) -> None:
        self._connect = connect
        self._lease = lease
        self._margin = min(_MARGIN, lease / 10)
        self._held: dict[str, Delivery] = {}
        self.presence = Presence(lease, self._margin)
        self._thread = threading.Thread(target=self._run, name="jetq-leases", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End the thread. What is still held is no longer renewed."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5.0)

    def hold(self, delivery: Delivery) -> None:
        """Renew `delivery` until `drop`, or until its `renew_until`."""
        self._held[delivery.token] = delivery

    def drop(self, delivery: Delivery) -> None:
        """Renew `delivery` no more: it is settled or given up."""
        self._held.pop(delivery.token, None)

    def valid(self, delivery: Delivery) -> bool:
        """Whether `delivery` is surely still this worker's. Only then may it be started or settled: an ack does not
        fence, a stale one would remove the job under its next holder."""
        return time.monotonic() < delivery.since + self._lease - self._margin

    def _run(self) -> None:
        with own_thread(0):  # a handler that blocks, which enqueues say, must not let the leases lapse
            asyncio.run(self._renew_until_stopped())

    async def _renew_until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        stopped = asyncio.create_task(self._stopping.wait())
        broker: Broker | None = None
        pause = self._lease / 3
        try:
            while not stopped.done():
                await asyncio.wait({stopped}, timeout=pause)
                pause = self._lease / 3
                due = self._due()
                if stopped.done() or not (due or self.presence.valid):
                    continue
                if broker is None:
                    broker = await self._connected(stopped)
                if broker is not None and not await self._renew(broker, due):
                    pause = min(_RETRY_AFTER, pause)
        finally:
            if broker is not None:
                await broker.close()

    async def _connected(self, stopped: asyncio.Task[Any]) -> Broker | None:
        connecting = asyncio.create_task(self._open())
        await asyncio.wait([stopped, connecting], return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            return None
        return connecting.result()

    async def _open(self) -> Broker:
        return await self._connect(patient=True)

    def _due(self) -> list[Delivery]:
        """What is held long enough to need a renewal, still ours, and allowed to go on."""
        now = time.monotonic()
        oldest, newest = now - self._lease + self._margin, now - self._lease / 4
        held = list(self._held.values())  # one step under the interpreter's lock: the loop goes on adding and dropping
        return [each for each in held if oldest < each.since < newest and now < each.renew_until]

    async def _renew(self, broker: Broker, deliveries: list[Delivery]) -> bool:
        asked_at = time.monotonic()
        renewed = await self._try(broker.extend(deliveries), f"{len(deliveries)} leases") if deliveries else True
        if renewed:
            for delivery in deliveries:
                delivery.since = asked_at
        if self.presence.valid:
            renewed &= await self._try(self.presence.renew(broker), "the slots of limits")
        return renewed

    async def _try(self, renewal: Coroutine[Any, Any, None], what: str) -> bool:
        try:
            await renewal
        except BrokerError as error:
            _log.warning("%s could not be renewed: %s", what, error.message)
            return False
        except Exception:  # this thread must outlive everything: without it every lease lapses
            _log.exception("%s could not be renewed", what)
            return False
        return True

"""The fast path of code that is not async: the thread that enqueues speaks to the broker itself, over a direct
connection.

Crossing to jetq's thread and back wakes a thread twice, which is half of what an enqueue costs. A direct connection
knows nothing but success: every other outcome is left to the crossing, which repeats the job with the same id, waits,
mends and says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from typing import TYPE_CHECKING

from jetq.model.job import EnqueueReceipt, JobRecord

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.broker.enqueueing import DirectConnection

__all__ = ["FastPath"]

_log = logging.getLogger("jetq.connection")

_NOT_AGAIN_WITHIN = 10.0
_LOOK_EVERY = 30.0


class FastPath:
    """At most one direct connection, for whichever thread takes it first; the other threads cross meanwhile.

    Nothing here is locked, because a KeyboardInterrupt or a job's timeout may end a thread anywhere in here. A
    connection that such a thread had taken is missed after a minute, and closed.

    Guarantee: tests/integration/connection/test_direct_connection.py: a connection that breaks costs no job and doubles
    none.
    """

    def __init__(self) -> None:
        self._idle: deque[DirectConnection] = deque()
        self._connection: DirectConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._seen = -1
        self._closed = False

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        """Store a plain job, from any thread. Return None if the job is not stored and has to cross. Raises NotStored
        if nobody knows whether the job is stored, which then has to cross as well."""
        try:
            connection = self._idle.pop()  # no other thread has this connection from here on
        except IndexError:
            return None
        stored = connection.store(job)
        if connection.is_open and not self._closed:
            self._idle.append(connection)
        return stored

    def wanted(self, broker: Broker) -> None:
        """Open a direct connection unless one is open, because a job has crossed that a direct connection could have
        taken. Call this on the loop of `broker`, jetq's own."""
        loop = asyncio.get_running_loop()
        if (
            self._opening is None
            and self._not_before <= loop.time()
            and (self._connection is None or not self._connection.is_open)
        ):
            self._not_before = loop.time() + _NOT_AGAIN_WITHIN
            self._opening = loop.create_task(self._open(broker), name="jetq-direct")

    async def _open(self, broker: Broker) -> None:
        try:
            connection = await broker.open_direct()
        except Exception as error:  # no job is lost by this
            _log.debug("no direct connection for code that is not async: %s", error)
            return
        finally:
            self._opening = None
        if connection is None:
            self._not_before = math.inf
            return
        self._connection, self._seen = connection, -1
        self._idle.append(connection)
        self._look_later()

    def _look_later(self) -> None:
        if self._looking is not None:  # the timer of an earlier connection
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Hang up if nobody used the connection since the last look, because nobody answers the server's pings
        meanwhile either."""
        connection = self._connection
        if connection is None or not connection.is_open:
            return
        if connection.used == self._seen:
            self._hang_up()
        else:
            self._seen = connection.used
            self._look_later()

    def _hang_up(self) -> None:
        self._idle.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def aclose(self) -> None:
        """Hang up for good. Call this on jetq's own loop."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        self._hang_up()

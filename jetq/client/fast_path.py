"""A connection of its own, called a line, for code that is not async: the thread that enqueues speaks to the broker
itself.

Crossing to jetq's thread and back wakes a thread twice, which is half of what an enqueue costs. A line knows nothing
but success: every other outcome is left to the crossing, which repeats the job with the same id, waits, mends and says
what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from typing import TYPE_CHECKING

from jetq.model.job import JobRecord, Stored

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.broker.enqueueing import DirectConnection

__all__ = ["DirectLine"]

_log = logging.getLogger("jetq.connection")

_NOT_AGAIN_WITHIN = 10.0
_LOOK_EVERY = 30.0


class DirectLine:
    """At most one line, for whichever thread takes it first; the other threads cross meanwhile.

    Nothing here is locked, because a KeyboardInterrupt or a job's timeout may end a thread anywhere in here. A line
    that such a thread had taken is missed after a minute, and closed.

    Guarantee: tests/integration/connection/test_socket_line.py: a line that breaks costs no job and doubles none.
    """

    def __init__(self) -> None:
        self._idle: deque[DirectConnection] = deque()
        self._line: DirectConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._seen = -1
        self._closed = False

    def store(self, job: JobRecord) -> Stored | None:
        """Store a plain job, from any thread. Return None if the job is not stored and has to cross. Raises NotStored
        if nobody knows whether the job is stored, which then has to cross as well."""
        try:
            line = self._idle.pop()  # no other thread has this line from here on
        except IndexError:
            return None
        stored = line.store(job)
        if line.is_open and not self._closed:
            self._idle.append(line)
        return stored

    def wanted(self, broker: Broker) -> None:
        """Open a line unless one is open, because a job has crossed that a line could have taken. To be called on the
        loop of `broker`, jetq's own."""
        loop = asyncio.get_running_loop()
        if self._opening is None and self._not_before <= loop.time() and (self._line is None or not self._line.is_open):
            self._not_before = loop.time() + _NOT_AGAIN_WITHIN
            self._opening = loop.create_task(self._open(broker), name="jetq-line")

    async def _open(self, broker: Broker) -> None:
        try:
            line = await broker.open_direct()
        except Exception as error:  # no job is lost by this
            _log.debug("no line of its own for code that is not async: %s", error)
            return
        finally:
            self._opening = None
        if line is None:
            self._not_before = math.inf
            return
        self._line, self._seen = line, -1
        self._idle.append(line)
        self._look_later()

    def _look_later(self) -> None:
        if self._looking is not None:  # the timer of an earlier line
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Hang up if nobody used the line since the last look, because nobody answers the server's pings meanwhile
        either."""
        line = self._line
        if line is None or not line.is_open:
            return
        if line.used == self._seen:
            self._hang_up()
        else:
            self._seen = line.used
            self._look_later()

    def _hang_up(self) -> None:
        self._idle.clear()
        line, self._line = self._line, None
        if line is not None:
            line.close()

    async def aclose(self) -> None:
        """Hang up for good. To be called on jetq's own loop."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        self._hang_up()

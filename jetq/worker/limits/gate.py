"""What jobs of one task, or of one key of it, pass before they are run: a pause, slots, and a rate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from jetq.errors import BrokerError
from jetq.worker.limits.pace import Pace
from jetq.worker.limits.slots import Slots

__all__ = ["Gate", "Reason"]

_log = logging.getLogger("jetq.worker")

_AGAIN_AFTER = 1.0
_SLEEP = 60.0
_SHORTEST = 0.001
_LINE_EVERY = 0.5
_ARRIVES = 0.05
"""Seconds in which a job that was called up has arrived, here or elsewhere."""

_ELSEWHERE = 0.1
"""Seconds without a call after one whose jobs went elsewhere: what others have more use for must not go round."""

_FEW = 10

Reason = Literal["limit", "rate", "pause", "slots"]
"""Why a job waits: too many run, too many were started, somebody asked for a pause, or its worker is busy."""


class Gate:
    """Lets in jobs in the order they came, as soon as all that is in their way is gone.

    slots, pace: None if there is no such limit. now: the time, unix seconds. room: how many jobs the worker may start
    besides those that run; waits: called with 1 when one begins to wait and with -1 when it does so no more, because
    that changes the room. call_up: fetches jobs that stand in line; called with how many are missing, returns how many
    come. on_idle: called with the gate when nobody needs it any more; it is not to be used again.

    has_line: jobs may stand in line. lining_up: how many are about to. marked_at: the loop's time when others were last
    told of the line.
    """

    def __init__(
        self,
        name: str,
        *,
        slots: Slots | None,
        pace: Pace | None,
        now: Callable[[], float],
        room: Callable[[], int],
        waits: Callable[[int], None],
        call_up: Callable[[int], Coroutine[Any, Any, int]],
        on_idle: Callable[[Gate], None],
    ) -> None:
        self.name = name
        self.slots = slots
        self.paused_until = 0.0
        self.has_line = False
        self.lining_up = 0
        self.marked_at = 0.0
        self._pace = pace
        self._now = now
        self._room = room
        self._waits = waits
        self._call_up = call_up
        self._on_idle = on_idle
        self._running = 0
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()
        self._woken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._calling: asyncio.Task[None] | None = None
        self._coming = 0
        self._coming_until = self._call_at = 0.0

    @property
    def waiting(self) -> int:
        """How many jobs wait here."""
        return len(self._waiting)

    @property
    def reason(self) -> Reason:
        """What the next job waits for."""
        if self._now() < self.paused_until:
            return "pause"
        if self.slots is not None and self._running >= self.slots.held:
            if self._running >= self.slots.limit or self._room() > 0:  # it holds no more than it can use
                return "limit"
        return "rate" if self._pace is not None and not self._pace.ready else "slots"

    async def enter(self, *, counted: bool = True, called_up: bool = False) -> None:
        """Wait for one's turn. Whoever was let in must `leave`, and nobody else may. counted: takes a free place of
        the worker. called_up: stood in line."""
        if called_up and self._coming:
            self._coming -= 1
            self._call_at = 0.0
        if counted:
            self._waits(1)
        if not self._waiting and self._opens(counted=counted):
            self._let_in(counted=counted)
            return
        turn = asyncio.get_running_loop().create_future()
        place = (turn, counted)
        self._waiting.append(place)
        self.wake()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()
            elif place in self._waiting:
                self._take_out(place)
            raise

    def leave(self) -> None:
        """A job that was let in does not run any more."""
        self._running -= 1
        if self.slots is None or self.slots.fair(self._running, self._wanted()) > self._running:
            self._admit()
        self.wake()

    def wake(self) -> None:
        """Something has changed."""
        self._woken.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"jetq-gate-{self.name}")

    def resume(self) -> None:
        """The worker has room again."""
        if self._waiting:
            self._admit()
            self.wake()

    def close(self) -> None:
        """Let nobody in any more."""
        for task in (self._keeper, self._calling):
            if task is not None:
                task.cancel()

    # --- letting in

    def _opens(self, *, counted: bool = True) -> bool:
        if self._now() < self.paused_until or (counted and self._room() <= 0):
            return False
        if self.slots is not None and self._running >= self.slots.held:
            return False
        return self._pace is None or self._pace.ready > 0

    def _let_in(self, *, counted: bool) -> None:
        self._running += 1
        if counted:
            self._waits(-1)
        if self._pace is not None:
            self._pace.use()

    def _admit(self) -> None:
        while self._waiting:
            turn, counted = self._waiting[0]
            if turn.cancelled():
                self._take_out(self._waiting[0])
            elif self._opens(counted=counted):
                self._waiting.popleft()
                self._let_in(counted=counted)
                turn.set_result(None)
            else:
                return

    def _take_out(self, place: tuple[asyncio.Future[None], bool]) -> None:
        self._waiting.remove(place)
        if place[1]:
            self._waits(-1)

    # --- keeping

    def _wanted(self) -> int:
        """How many slots can be used here now."""
        more = self._startable()
        if self._pace is not None:
            more = min(more, 1 + self._pace.ready)
        return self._running + more

    def _startable(self) -> int:
        """How many of those that wait the worker has room for."""
        if not self._waiting:
            return 0
        _, counted = self._waiting[0]
        return min(len(self._waiting), max(0 if counted else 1, self._room()))

    def _paceable(self) -> int:
        """How many of those that wait need nothing but a time of the rate."""
        if self._now() < self.paused_until:
            return 0
        more = self._startable()
        return more if self.slots is None else min(more, max(0, self.slots.held - self._running))

    def _is_needed(self) -> bool:
        return bool(self._waiting or self._running or self.has_line or self.lining_up) or not (
            self.slots is None or self.slots.settled
        )

    async def _keep(self) -> None:
        try:
            while self._is_needed():
                self._woken.clear()
                again_after = await self._look()
                if not self._is_needed():
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(again_after, _SHORTEST)):
                        await self._woken.wait()
        finally:
            self._on_idle(self)

    async def _look(self) -> float:
        """Do what can be done for those that wait; seconds until that is to be repeated."""
        try:
            if self.slots is not None:
                await self.slots.adjust(self._running, self._wanted())
            if self._pace is not None:
                await self._pace.take(self._paceable())
        except BrokerError as error:
            _log.warning("limits of %s: %s", self.name, error.message)
            return _AGAIN_AFTER
        except Exception:  # a fault of jetq's own must not leave jobs waiting for ever
            _log.exception("limits of %s", self.name)
            return _AGAIN_AFTER
        self._admit()
        self._call_up_if_low()
        return self._next_look()

    def _next_look(self) -> float:
        after = _SLEEP
        if self.has_line:
            after = _ARRIVES if self._coming else _ELSEWHERE if self._call_at else _LINE_EVERY
        if not self._waiting:
            # Those that run need slots again under a new name, should the worker's sign of life have lapsed.
            return min(after, _AGAIN_AFTER) if self.slots is not None and self._running else after
        after = min(after, _AGAIN_AFTER)  # whatever was overlooked costs no more than that
        paused_for = self.paused_until - self._now()
        if paused_for > 0:
            return min(after, paused_for)
        if self.slots is not None and self.slots.misses(self._wanted()):
            after = min(after, self.slots.waits_for - asyncio.get_running_loop().time())
        elif self._pace is not None and (paceable := self._paceable()):
            after = min(after, self._pace.waits(paceable))
        return after

    def _call_up_if_low(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._coming and now > self._coming_until:  # they went elsewhere
            self._coming = 0
            self._call_at = now + _ELSEWHERE
        if self.has_line and self._calling is None and now >= self._call_at and self._now() >= self.paused_until:
            # A worker without room calls nobody: they would not come to it, and the line would be emptied for nothing.
            if (missing := self._at_hand() - len(self._waiting) - self._coming) > 0 and self._room() > 0:
                self._calling = asyncio.create_task(self._fetch(missing), name=f"jetq-line-{self.name}")

    def _at_hand(self) -> int:
        """How many jobs should wait here, so that none is missed when one may start."""
        if self.slots is not None:
            return max(2 * self.slots.held, min(4 * self.slots.limit, _FEW))
        return max(1, self._room() if self._pace is None else self._pace.soon)

    async def _fetch(self, missing: int) -> None:
        try:
            called = await self._call_up(missing)
            now = asyncio.get_running_loop().time()
            self._coming += called
            self._coming_until = now + _ARRIVES
            if not called:  # there is none, or none may be called now
                self._call_at = now + _ELSEWHERE
        except BrokerError as error:
            _log.warning("the line of %s: %s", self.name, error.message)
            await asyncio.sleep(_AGAIN_AFTER)
        except Exception:  # a fault of jetq's own: those in line come back by themselves
            _log.exception("the line of %s", self.name)
            await asyncio.sleep(_AGAIN_AFTER)
        finally:
            self._calling = None
            self._woken.set()

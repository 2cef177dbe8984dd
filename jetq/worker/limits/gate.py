"""The gate that jobs of one task, or of one key of a task, pass before they start: a pause, the slots of a limit, and a
rate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from jetq.errors import BrokerError
from jetq.worker.limits.limit_share import LimitShare
from jetq.worker.limits.rate_schedule import RateSchedule

__all__ = ["Gate", "Reason"]

_log = logging.getLogger("jetq.worker")

_RETRY_AFTER = 1.0
"""Seconds after which the gate looks again after a look that failed, and at the latest while jobs wait, in case a
change was overlooked."""

_IDLE_AFTER = 60.0
"""Seconds until the next look while no job waits."""

_SHORTEST_SLEEP = 0.001
"""The least number of seconds between two looks, so that other tasks of the loop run too."""

_LOOK_FOR_PARKED_EVERY = 0.5
"""Seconds between two looks for parked jobs while no job is being called up."""
_ARRIVES_WITHIN = 0.05
"""Seconds within which a parked job that was called up has arrived, at this worker or at another one."""

_NO_CALLS_FOR = 0.1
"""Seconds to wait after calling up jobs that another worker took, so that workers do not pass a job around."""

_MIN_WAITING = 10
"""The least number of jobs that the gate keeps waiting in this worker while there are enough jobs, however small the
limit is. Jobs that wait in the worker start without being called up."""

Reason = Literal["limit", "rate", "pause", "slots"]
"""Why a job waits: too many jobs run, too many were started, a pause was requested, or the worker is busy."""


class Gate:
    """Admits jobs in order of arrival, once no pause, limit or rate holds them back.

    share, schedule: the worker's slots of the limit and its times of the rate; None without such a limit or rate. now:
    returns the broker's time, in unix seconds. free_slots: returns how many more jobs the worker may start.
    on_waiting_change: called with 1 when a job begins to wait and with -1 when the job waits no more, because either
    changes `free_slots`. fetch_parked: calls up parked jobs; called with how many are missing, returns how many come.
    on_idle: called with the gate when the gate is not needed any more; the gate must not be used after that.

    has_parked: jobs may be parked at the broker. parking: how many jobs are about to be parked. marked_at: the loop's
    time when other workers were last told that there are parked jobs. looks: how many times the gate has looked after
    its waiting jobs.
    """

    def __init__(
        self,
        name: str,
        *,
        share: LimitShare | None,
        schedule: RateSchedule | None,
        now: Callable[[], float],
        free_slots: Callable[[], int],
        on_waiting_change: Callable[[int], None],
        fetch_parked: Callable[[int], Coroutine[Any, Any, int]],
        on_idle: Callable[[Gate], None],
    ) -> None:
        self.name = name
        self.share = share
        self.paused_until = 0.0
        self.has_parked = False
        self.parking = 0
        self.marked_at = 0.0
        self.looks = 0
        self._schedule = schedule
        self._now = now
        self._free_slots = free_slots
        self._on_waiting_change = on_waiting_change
        self._fetch_parked = fetch_parked
        self._on_idle = on_idle
        self._running = 0
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()
        self._woken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._calling: asyncio.Task[None] | None = None
        self._called_up = 0
        self._called_up_until = self._call_at = 0.0

    @property
    def running(self) -> int:
        """How many admitted jobs run."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many jobs wait at this gate."""
        return len(self._waiting)

    @property
    def reason(self) -> Reason:
        """What the next job waits for."""
        if self._now() < self.paused_until:
            return "pause"
        if self.share is not None and self._running >= self.share.held:
            # This worker holds no more slots than it can use.
            if self._running >= self.share.limit or self._free_slots() > 0:
                return "limit"
        return "rate" if self._schedule is not None and not self._schedule.ready else "slots"

    async def enter(self, *, counted: bool = True, called_up: bool = False) -> None:
        """Wait to be admitted. Call `leave` exactly once after admission.

        counted: the job occupies a slot of the worker. called_up: the job was parked before.
        """
        if called_up and self._called_up:
            self._called_up -= 1
            self._call_at = 0.0
        if counted:
            self._on_waiting_change(1)
        if not self._waiting and self._is_open(counted=counted):
            self._mark_running(counted=counted)
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (turn, counted)
        self._waiting.append(entry)
        self.wake()
        try:
            await turn
        except asyncio.CancelledError:
            # The turn was granted just before the cancellation: the slot must be given back.
            if not turn.cancelled():
                self.leave()
            elif entry in self._waiting:
                self._take_out(entry)
            raise

    def leave(self) -> None:
        """Note that an admitted job does not run any more."""
        self._running -= 1
        if self.share is None or self.share.fair(self._running, self._wanted()) > self._running:
            self._admit()
        self.wake()

    def wake(self) -> None:
        """Have the gate look at once after its waiting jobs, because something has changed."""
        self._woken.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"jetq-gate-{self.name}")

    def resume(self) -> None:
        """Admit waiting jobs, because the worker has free slots again."""
        if self._waiting:
            self._admit()
            self.wake()

    def close(self) -> None:
        """Admit no more jobs."""
        for task in (self._keeper, self._calling):
            if task is not None:
                task.cancel()

    # --- letting in

    def _is_open(self, *, counted: bool = True) -> bool:
        if self._now() < self.paused_until or (counted and self._free_slots() <= 0):
            return False
        if self.share is not None and self._running >= self.share.held:
            return False
        return self._schedule is None or self._schedule.ready > 0

    def _mark_running(self, *, counted: bool) -> None:
        self._running += 1
        if counted:
            self._on_waiting_change(-1)
        if self._schedule is not None:
            self._schedule.use()

    def _admit(self) -> None:
        while self._waiting:
            turn, counted = self._waiting[0]
            if turn.cancelled():
                self._take_out(self._waiting[0])
            elif self._is_open(counted=counted):
                self._waiting.popleft()
                self._mark_running(counted=counted)
                turn.set_result(None)
            else:
                return

    def _take_out(self, entry: tuple[asyncio.Future[None], bool]) -> None:
        self._waiting.remove(entry)
        if entry[1]:
            self._on_waiting_change(-1)

    # --- keeping

    def _wanted(self) -> int:
        """Return how many slots this worker could use now."""
        more = self._startable()
        if self._schedule is not None:
            more = min(more, 1 + self._schedule.ready)
        return self._running + more

    def _startable(self) -> int:
        """Return how many of the waiting jobs the worker has free slots for."""
        if not self._waiting:
            return 0
        _, counted = self._waiting[0]
        return min(len(self._waiting), max(0 if counted else 1, self._free_slots()))

    def _paceable(self) -> int:
        """Return how many of the waiting jobs need nothing but a time of the rate."""
        if self._now() < self.paused_until:
            return 0
        more = self._startable()
        return more if self.share is None else min(more, max(0, self.share.held - self._running))

    def _is_needed(self) -> bool:
        return bool(self._waiting or self._running or self.has_parked or self.parking) or not (
            self.share is None or self.share.holds_none
        )

    async def _keep(self) -> None:
        try:
            while self._is_needed():
                # Cleared before the look: a change during the look makes the gate look again.
                self._woken.clear()
                again_after = await self._look()
                if not self._is_needed():
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(again_after, _SHORTEST_SLEEP)):
                        await self._woken.wait()
        finally:
            self._on_idle(self)

    async def _look(self) -> float:
        """Do what can be done for the waiting jobs. Return the seconds until the next look."""
        self.looks += 1
        try:
            if self.share is not None:
                await self.share.adjust(self._running, self._wanted())
            if self._schedule is not None:
                await self._schedule.take(self._paceable())
        except BrokerError as error:
            _log.warning("limits of %s: %s", self.name, error.message)
            return _RETRY_AFTER
        except Exception:  # a fault of jetq's own must not leave jobs waiting for ever
            _log.exception("limits of %s", self.name)
            return _RETRY_AFTER
        self._admit()
        self._call_up_if_low()
        return self._next_look()

    def _next_look(self) -> float:
        after = _IDLE_AFTER
        if self.has_parked:
            after = _ARRIVES_WITHIN if self._called_up else _NO_CALLS_FOR if self._call_at else _LOOK_FOR_PARKED_EVERY
        if not self._waiting:
            # If the worker's presence lapses, its running jobs must take slots again under a new presence.
            return min(after, _RETRY_AFTER) if self.share is not None and self._running else after
        after = min(after, _RETRY_AFTER)  # a change that was overlooked costs no more than that
        paused_for = self.paused_until - self._now()
        if paused_for > 0:
            return min(after, paused_for)
        if self.share is not None and self.share.misses(self._wanted()):
            after = min(after, self.share.look_again_at - asyncio.get_running_loop().time())
        elif self._schedule is not None and (paceable := self._paceable()):
            after = min(after, self._schedule.seconds_until(paceable))
        return after

    def _call_up_if_low(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._called_up and now > self._called_up_until:  # other workers took the called-up jobs
            self._called_up = 0
            self._call_at = now + _NO_CALLS_FOR
        if self.has_parked and self._calling is None and now >= self._call_at and self._now() >= self.paused_until:
            # A worker without free slots calls up no jobs: the jobs would go to other workers, which can call them up
            # themselves.
            if (missing := self._at_hand() - len(self._waiting) - self._called_up) > 0 and self._free_slots() > 0:
                self._calling = asyncio.create_task(self._fetch(missing), name=f"jetq-line-{self.name}")

    def _at_hand(self) -> int:
        """Return how many jobs should wait in this worker, so that a job is at hand whenever one may start."""
        if self.share is not None:
            return max(2 * self.share.held, min(4 * self.share.limit, _MIN_WAITING))
        return max(1, self._free_slots() if self._schedule is None else self._schedule.soon)

    async def _fetch(self, missing: int) -> None:
        try:
            called = await self._fetch_parked(missing)
            now = asyncio.get_running_loop().time()
            self._called_up += called
            self._called_up_until = now + _ARRIVES_WITHIN
            if not called:  # no job is parked, or none may be called up now
                self._call_at = now + _NO_CALLS_FOR
        except BrokerError as error:
            _log.warning("the line of %s: %s", self.name, error.message)
            await asyncio.sleep(_RETRY_AFTER)
        except Exception:  # a fault of jetq's own: parked jobs come back by themselves
            _log.exception("the line of %s", self.name)
            await asyncio.sleep(_RETRY_AFTER)
        finally:
            self._calling = None
            self._woken.set()

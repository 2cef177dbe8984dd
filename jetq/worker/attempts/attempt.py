"""One run of one job, and what can happen to it from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field

from jetq.client.task import Task
from jetq.encoding.failures import capture
from jetq.model.cell import Cell
from jetq.model.definitions.options import CallSettings, TaskOptions, effective_options
from jetq.model.failure import Failure
from jetq.model.job import DEFAULT_META, Delivery, Meta
from jetq.model.job_context import CANCEL, CancelSignal
from jetq.model.oversized import Kept
from jetq.model.redaction import secret_texts, veil
from jetq.worker.attempts.ending import Ending, stronger

__all__ = ["INSIST_AFTER", "Attempt", "Gate", "running_now"]

INSIST_AFTER = 5.0
"""Seconds after which a task that goes on is cancelled again, and after as many more given up."""

_TOLD_ON_LOOP, _TOLD_IN_THREAD = 2, 3
"""How often an attempt is told to end before it is given up. A thread's first time is the pool's, which insists."""

_POOL_TAKES = 11.0
"""Seconds after which the pool of threads has ended a call that it has interrupted, or has given it up."""


class Gate(Protocol):
    """What lets attempts in: a limit of their task."""

    @property
    def reason(self) -> str:
        """What the next one waits for."""
        ...

    def leave(self) -> None:
        """Note that an attempt that was let in does not run any more."""
        ...


class Attempt(Struct, eq=False):
    """One run of one job, from its delivery to its outcome.

    runner: the asyncio task that runs it. interruptible: true just while user code runs, or it waits for its turn: the
    only time at which the runner may be cancelled, because a settlement must not be. ending: how it is being ended,
    None while it is not. told: how often its code was told to end, at its timeout or on request. on_loop: what its
    function has returned is awaited there. given_up: its code did not end, and nobody waits for it. storing: its code
    has ended and holds no slot, and what it has returned is on its way to the broker. gates: those that have let it
    in; waits_at: the one that has not yet. kept: what was in the cell beside a job that stays where it is.
    """

    delivery: Delivery
    task: Task[..., Any] | None = None
    meta: Meta = DEFAULT_META
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    deadline: float | None = None
    runner: asyncio.Task[None] | None = None
    interruptible: bool = False
    ending: Ending | None = None
    told: int = 0
    on_loop: bool = False
    given_up: bool = False
    storing: bool = False
    cancel_signal: CancelSignal = field(default_factory=CancelSignal)
    started: float = 0.0
    gates: list[Gate] = []
    waits_at: Gate | None = None
    kept: tuple[Kept, Cell] | None = None

    def __repr__(self) -> str:
        return f"<attempt at {self.name} {self.delivery.id}>"  # without its arguments

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the job."""
        return self.ending == "cancel"

    @property
    def in_thread(self) -> bool:
        """Whether its function runs in a thread."""
        return self.task is not None and self.task.declared.run_in == "thread" and not self.on_loop

    @property
    def options(self) -> TaskOptions:
        """The options of its job: its task's, or those of any task where that is not known here, and its call's."""
        options = TaskOptions() if self.task is None else self.task.declared
        if self.meta is DEFAULT_META:  # as most are: without two calls for each job
            return options
        return effective_options(options, CallSettings.carried_by(self.meta))

    @property
    def name(self) -> str:
        """The task's name, or where the job stands when it has none."""
        return self.delivery.task or self.delivery.address

    def cancel(self) -> None:
        """End it on request: now if it runs, or instead of its start."""
        self.ending = stronger(self.ending, "cancel")
        self.cancel_signal.given = True
        if self.interruptible and self.runner is not None:
            self.runner.cancel(CANCEL)
            self.told = 1
            self.deadline = time.monotonic() + (_POOL_TAKES if self.in_thread else INSIST_AFTER)

    async def wait(self, waiting: Coroutine[Any, Any, object]) -> bool:
        """Wait for `waiting`, which is none of its code. Returns False if it is ended before: cancelled, or given back.

        Raises CancelledError if somebody else cancels its runner, as who ends all tasks there are.
        """
        if self.ending is not None:
            waiting.close()
            return False
        self.interruptible = True
        try:
            await waiting
        except asyncio.CancelledError:
            if self.ending is None:
                raise
            await self.forget_cancellation()
            return False
        finally:
            self.interruptible = False
        return True

    async def forget_cancellation(self) -> None:
        """Take a cancellation of its runner back, if there is one: it has ended what it was meant for, or was ignored,
        or the job's code has cancelled the task it runs in. What follows must not see it: it would cut a settlement
        off."""
        if self.runner is None or not self.runner.cancelling():
            return
        with suppress(asyncio.CancelledError):  # before Python 3.13 what is on its way is not taken back by `uncancel`
            await asyncio.sleep(0)
        while self.runner.uncancel() > 0:
            pass

    def capture(self, error: BaseException) -> Failure:
        """`error` as text, without the job's secret arguments and those it asks for in a Retry."""
        if self.task is None:
            return capture(error)
        kinds, texts = self.task.signature.kinds, set[str]()
        for values in (self._stored_arguments(), self._arguments(), getattr(error, "arguments", None)):
            texts |= secret_texts(values, kinds)
        return capture(error, veil(frozenset(texts)))

    def _stored_arguments(self) -> Any:
        try:
            return msgspec.json.decode(self.delivery.body)
        except (ValueError, RecursionError):
            return None

    def _arguments(self) -> Any:
        assert self.task is not None
        try:
            return self.task.signature.values(self.args, self.kwargs)
        except TypeError:  # it has not been loaded
            return None

    def time_out(self, now: float) -> bool:
        """Tell it to end, because its deadline has passed at `now`, by `time.monotonic()`. To be called again at the
        next one, if it goes on. Returns True if it has had its time, and is to be given up."""
        if self.told >= (_TOLD_IN_THREAD if self.in_thread else _TOLD_ON_LOOP):
            return True
        self.ending = stronger(self.ending, "timeout")
        self.told += 1
        if self.in_thread and self.told == 1:  # the pool interrupts it; what goes on after that is middleware
            self.deadline = now + _POOL_TAKES
        else:
            self.deadline = now + INSIST_AFTER
            self._interrupt()
        return False

    def release(self) -> None:
        """Give it back: now if it runs on the loop, or instead of its start."""
        self.ending = stronger(self.ending, "release")
        self._interrupt()

    def _interrupt(self) -> None:
        # User code only, because a settlement must not be.
        if self.interruptible and self.runner is not None:
            self.runner.cancel()


def running_now(attempts: Iterable[Attempt], loop: asyncio.AbstractEventLoop) -> str:
    """Return which attempt's code `loop` is running now, for log messages. Thread-safe."""
    task = asyncio.current_task(loop)
    for attempt in attempts:
        if attempt.runner is task:
            return f"{attempt.name} {attempt.delivery.id}"
    return "something that is no job's own code"

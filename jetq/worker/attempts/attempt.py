"""One run of one job, and what can happen to it from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

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
from jetq.worker.limits.gate import Gate

__all__ = ["INSIST_AFTER", "Attempt", "running_now"]

INSIST_AFTER = 5.0
"""Seconds after which a task that goes on is cancelled again, and after as many more given up."""

_TOLD = 2

_POOL_TAKES = 11.0
"""Seconds after which the pool of threads has ended a call that it has interrupted, or has given it up."""


class Attempt(Struct, eq=False):
    """One run of one job, from its delivery to its outcome.

    runner is the asyncio task that runs it. interruptible is true just while user code runs on the loop: the only time
    at which the runner may be cancelled, because a settlement must not be. released, cancelled and timed_out tell a
    cancellation by shutdown, by request and by timeout apart; interrupted is how often the runner got one of the latter
    two. on_loop: what its function has returned is awaited there. given_up: its code did not end, and nobody waits for
    it. storing: it has ended and holds no slot, and what it has returned is on its way to the broker. gates are those
    that let it in, waits_at the one that has not yet. kept: what stood in the cell beside a job that stays where it is.
    """

    delivery: Delivery
    task: Task[..., Any] | None = None
    meta: Meta = DEFAULT_META
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    deadline: float | None = None
    runner: asyncio.Task[None] | None = None
    interruptible: bool = False
    timed_out: bool = False
    released: bool = False
    cancelled: bool = False
    interrupted: int = 0
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
    def in_thread(self) -> bool:
        """Whether its function runs in a thread."""
        return self.task is not None and self.task.defaults.run_in == "thread" and not self.on_loop

    @property
    def options(self) -> TaskOptions:
        """The options of its job: its task's, or those of any task where that is not known here, and its call's."""
        options = TaskOptions() if self.task is None else self.task.defaults
        return effective_options(options, CallSettings.carried_by(self.meta))

    @property
    def name(self) -> str:
        """The task's name, or where the job stands when it has none."""
        return self.delivery.task or self.delivery.address

    def cancel(self) -> None:
        """End it on request: now if it runs, or instead of its start."""
        self.cancelled = self.cancel_signal.given = True
        if self.interruptible and self.runner is not None:
            self.runner.cancel(CANCEL)
            self.interrupted = 0 if self.in_thread else 1
            self.deadline = time.monotonic() + (_POOL_TAKES if self.in_thread else INSIST_AFTER)

    async def forget_cancellation(self) -> None:
        """A cancellation has ended what it was meant for, or was ignored, or the job's code has cancelled the task it
        runs in; what follows must not see it."""
        assert self.runner is not None
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
        """Its deadline has passed, by `time.monotonic()`. To be called again at the next one, if it goes on. Whether it
        has had its time, and is to be given up."""
        if self.interrupted >= _TOLD:
            return True
        told = self.timed_out or self.cancelled
        self.timed_out = True
        if self.in_thread and not told:  # the pool interrupts it; what goes on after that is middleware
            self.deadline = now + _POOL_TAKES
        else:
            self.interrupted += 1
            self.deadline = now + INSIST_AFTER
            self._interrupt()
        return False

    def release(self) -> None:
        """Give it back: now if it runs on the loop, or instead of its start."""
        self.released = True
        self._interrupt()

    def _interrupt(self) -> None:
        # User code only, because a settlement must not be.
        if self.interruptible and self.runner is not None:
            self.runner.cancel()


def running_now(attempts: Iterable[Attempt], loop: asyncio.AbstractEventLoop) -> str:
    """Of which of these the code is that `loop` runs at the moment: for people. From any thread."""
    task = asyncio.current_task(loop)
    for attempt in attempts:
        if attempt.runner is task:
            return f"{attempt.name} {attempt.delivery.id}"
    return "something that is no job's own code"

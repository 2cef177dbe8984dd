"""One run of one job, and the ways to end or interrupt that run from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct, field

from jetq.client.task import Task
from jetq.encoding.failures import capture
from jetq.model.cell import Cell
from jetq.model.definitions.options import CallSettings, TaskOptions, effective_options
from jetq.model.failure import Failure
from jetq.model.job import DEFAULT_META, Delivery, Meta
from jetq.model.job_context import CANCEL, CancelSignal
from jetq.model.outcome import Cancelled, Released
from jetq.model.oversized import Kept
from jetq.model.redaction import redactor, secret_texts
from jetq.model.workflows.plan import Spot

__all__ = ["INSIST_AFTER", "Attempt", "Ending", "Gate", "outcome_without_run", "running_now", "stronger"]

INSIST_AFTER = 5.0
"""Seconds after which a task that goes on is cancelled again, and given up after the same time once more."""

_MOST_ON_LOOP, _MOST_IN_THREAD = 2, 3
"""How many times an attempt is told to end before it is given up. The first time in a thread is left to the pool, which
insists."""

_POOL_TAKES = 11.0
"""Seconds within which the pool of threads has ended a call that it has interrupted, or has given the call up."""


Ending = Literal["timeout", "release", "cancel"]
"""Why an attempt is being ended: its timeout has passed, its worker ends and gives the job back, or the job was
cancelled."""

_ORDER: tuple[Ending | None, ...] = (
    None,
    "timeout",
    "release",  # above its timeout: a job that is given back is charged nothing
    "cancel",  # above all: the caller of a cancel waits for a record, and a job that is given back would run again
)
"""The order of precedence: a later entry wins."""


def stronger(one: Ending | None, other: Ending) -> Ending:
    """Return which of two endings counts for an attempt that is ended in both ways, in whatever order."""
    return other if one is None or _ORDER.index(other) > _ORDER.index(one) else one


def outcome_without_run(ending: Ending | None) -> Cancelled | Released:
    """Return the outcome of an attempt that was ended while it waited to be run."""
    return Cancelled() if ending == "cancel" else Released()


class Gate(Protocol):
    """Lets attempts in: a limit of their task."""

    @property
    def reason(self) -> str:
        """What the next attempt waits for."""
        ...

    def leave(self) -> None:
        """Note that an attempt that was let in does not run any more."""
        ...


class Attempt(Struct, eq=False):
    """One run of one job, from its delivery to its outcome.

    runner: the asyncio task that runs the attempt. interruptible: True only while user code runs, or while the attempt
    waits for its turn. Only then may the runner be cancelled, because a settlement must not be cancelled. ending: how
    the attempt is being ended, None while it is not being ended. interruptions: how many times its code was told to
    end, at its timeout or on request. on_loop: the return value of its function is awaited on the loop. given_up: its
    code did not end, and nothing waits for the code. storing: its code has ended and holds no slot, and its return
    value is on its way to the broker. gates: the gates that have let the attempt in; waits_at: the gate that has not
    yet. kept: the content of the cell beside a job that stays where it is. values: what a member of a workflow takes of
    other steps, and the spots in its arguments; None until that is read. unmarked_at: the broker's time, in unix
    seconds, when the member began to leave its mark; None before. counted: the count of the page of a member whose mark
    stands; None until it was counted.
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
    interruptions: int = 0
    on_loop: bool = False
    given_up: bool = False
    storing: bool = False
    cancel_signal: CancelSignal = field(default_factory=CancelSignal)
    started: float = 0.0
    gates: list[Gate] = []
    waits_at: Gate | None = None
    kept: tuple[Kept, Cell] | None = None
    values: list[tuple[Spot, Raw]] | None = None
    unmarked_at: float | None = None
    counted: int | None = None

    def __repr__(self) -> str:
        return f"<attempt at {self.name} {self.delivery.id}>"  # without its arguments

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self.ending == "cancel"

    @property
    def in_thread(self) -> bool:
        """Whether the attempt's function runs in a thread."""
        return self.task is not None and self.task.declared.run_in == "thread" and not self.on_loop

    @property
    def options(self) -> TaskOptions:
        """The options of the job: the options of its task, or the defaults if this worker does not know the task, with
        the options of the call."""
        options = TaskOptions() if self.task is None else self.task.declared
        if self.meta is DEFAULT_META:  # as most jobs have; this saves two calls for each job
            return options
        return effective_options(options, CallSettings.carried_by(self.meta))

    @property
    def name(self) -> str:
        """The task's name, or the job's address if the job has no task."""
        return self.delivery.task or self.delivery.address

    def cancel(self) -> None:
        """End the attempt on request: now if it runs, or before its start."""
        self.ending = stronger(self.ending, "cancel")
        self.cancel_signal.given = True
        if self.interruptible and self.runner is not None:
            self.runner.cancel(CANCEL)
            self.interruptions = 1
            self.deadline = time.monotonic() + (_POOL_TAKES if self.in_thread else INSIST_AFTER)

    async def wait(self, waiting: Coroutine[Any, Any, object]) -> bool:
        """Wait for `waiting`, which is no code of the job. Return False if the attempt is cancelled, or given back,
        before `waiting` is done.

        Raises CancelledError if other code cancels the runner, for example code that ends all existing tasks.
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
        """Take back a cancellation of the runner, if there is one. The cancellation has done its work, or was ignored,
        or the job's code has cancelled the task in which it runs. The steps that follow must not see the cancellation:
        it would cut a settlement off."""
        if self.runner is None or not self.runner.cancelling():
            return
        # Before Python 3.13 `uncancel` does not take back a cancellation on its way.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        while self.runner.uncancel() > 0:
            pass

    def capture(self, error: BaseException) -> Failure:
        """Return `error` as text, without the job's secret arguments and the secret arguments that `error` asks for in
        a Retry."""
        if self.task is None:
            return capture(error)
        annotations, texts = self.task.signature.annotations, set[str]()
        for values in (self._stored_arguments(), self._arguments(), getattr(error, "arguments", None)):
            texts |= secret_texts(values, annotations)
        return capture(error, redactor(frozenset(texts)))

    def _stored_arguments(self) -> Any:
        try:
            return msgspec.json.decode(self.delivery.body)
        except (ValueError, RecursionError):
            return None

    def _arguments(self) -> Any:
        assert self.task is not None
        try:
            return self.task.signature.values(self.args, self.kwargs)
        except TypeError:  # the attempt has not been loaded
            return None

    def time_out(self, now: float) -> bool:
        """Tell the attempt to end, because its deadline has passed at `now`, by `time.monotonic()`. Call this again at
        the next deadline, if the attempt goes on. Return True if the attempt was told often enough and is to be given
        up."""
        if self.interruptions >= (_MOST_IN_THREAD if self.in_thread else _MOST_ON_LOOP):
            return True
        self.ending = stronger(self.ending, "timeout")
        self.interruptions += 1
        # The pool interrupts the function; code that goes on after that is middleware.
        if self.in_thread and self.interruptions == 1:
            self.deadline = now + _POOL_TAKES
        else:
            self.deadline = now + INSIST_AFTER
            self._interrupt()
        return False

    def release(self) -> None:
        """Give the job back: now if it runs on the loop, or before its start."""
        self.ending = stronger(self.ending, "release")
        self._interrupt()

    def _interrupt(self) -> None:
        # Interrupt user code only, because a settlement must not be interrupted.
        if self.interruptible and self.runner is not None:
            self.runner.cancel()


def running_now(attempts: Iterable[Attempt], loop: asyncio.AbstractEventLoop) -> str:
    """Return the name and id of the attempt whose code `loop` is running now, for log messages. Thread-safe."""
    task = asyncio.current_task(loop)
    for attempt in attempts:
        if attempt.runner is task:
            return f"{attempt.name} {attempt.delivery.id}"
    return "something that is no job's own code"

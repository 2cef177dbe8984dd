"""Runs sync task functions in threads: started on demand, interrupted at their deadline, given up when they never
end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from jetq.errors import Interruption, JobCancelled, JobTimeout
from jetq.model.job_context import CANCEL
from jetq.runtime.forks import end_child, is_child_of
from jetq.worker.pools.errors import ThreadLost

__all__ = ["ThreadPool"]

_log = logging.getLogger("jetq.worker")

_LOST_AFTER = 10.0
"""Seconds after its interruption at which a thread that still runs is given up."""

_AGAIN_AFTER = 1.0
"""Seconds after which an interruption that was swallowed is raised again."""

_TICK = 0.05
"""Seconds between looks at deadlines: an interruption is late by at most this time."""

_DEEPEST = 100
"""The most steps for which an exception's history is followed."""

_NOTHING = object()


class _TimedOut(Interruption):
    error = JobTimeout


class _WorkerEnds(Interruption):
    pass


class _CancelledOnRequest(Interruption):
    error = JobCancelled


class _Withdrawn(Interruption):
    """Takes the place of an interruption that came too late. No user code sees this exception."""


class ThreadPool:
    """Up to `size` threads for the functions of one worker, for the event loop on which the pool was made.

    `lost` counts the threads that were given up; each is replaced when a call needs it.
    """

    def __init__(self, size: int) -> None:
        self.lost = 0
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._calls: set[_Call] = set()
        self._threads = 0
        self._started = 0
        self._done: deque[_Call] = deque()
        self._waking = False
        self._watcher: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def threads(self) -> int:
        """How many threads there are now, without the threads that were given up."""
        return self._threads

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, deadline: float | None
    ) -> Any:
        """Call `fn` in a thread, in a copy of this context, and return its value or raise what it raised.

        An Interruption is raised inside `fn` at `deadline` (`time.monotonic()`), and when this coroutine is cancelled,
        which may be with the message CANCEL. The Interruption is raised again while `fn` goes on in spite of it. An
        Interruption that leaves `fn` is raised here as its `error`. Either way this coroutine ends only with the call
        in the thread, and returns the value if `fn` returned one all the same.

        Raises ThreadLost if the call did not end within 10 s, and RuntimeError if no thread can be started.
        """
        call = _Call(fn, args, kwargs, self._loop.create_future(), deadline)
        if len(self._calls) >= self._threads:
            self._start_thread()
        self._calls.add(call)
        self._queue.put(call)
        if self._watcher is None and not self._closed:
            self._watcher = self._loop.call_later(_TICK, self._watch)
        cancelled: asyncio.CancelledError | None = None
        while not call.ended:
            try:
                await call.future
            except asyncio.CancelledError as error:
                cancelled = error
                call.future = self._loop.create_future()
                self._interrupt(call, _CancelledOnRequest if error.args == (CANCEL,) else _WorkerEnds)
        return _outcome(call, cancelled)

    def close(self) -> None:
        """End the idle threads. A thread that still runs something ends after that, and does not keep the process
        alive."""
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        self._queue.put(None)

    # --- on the loop

    def _start_thread(self) -> None:
        if self._threads >= self._size:
            return
        try:
            _Thread(self._queue, self._report, self._started + 1).start()
        except RuntimeError:  # the system has no more threads to give
            if not self._threads:
                raise
            _log.warning("no more than %d of %d threads could be started", self._threads, self._size)
            return
        self._started += 1
        self._threads += 1

    def _interrupt(self, call: _Call, interruption: type[Interruption]) -> None:
        if call.ended or call.interruption is not None:
            return
        call.interrupted_at = call.raised_at = time.monotonic()
        call.interruption = interruption
        if call.thread is None:  # a thread that takes the call from here on sees the interruption
            call.error = interruption()
            self._end(call)
        else:
            call.thread.interrupt(call, interruption)

    def _watch(self) -> None:
        self._watcher = None
        now = time.monotonic()
        for call in list(self._calls):
            if call.interruption is not None:
                if now - call.interrupted_at > _LOST_AFTER:
                    self._give_up(call)
                elif now - call.raised_at > _AGAIN_AFTER and call.thread is not None:
                    call.raised_at = now
                    call.thread.interrupt_again(call, call.interruption)
            elif call.deadline is not None and call.deadline <= now:
                self._interrupt(call, _TimedOut)
        if self._calls and not self._closed:
            self._watcher = self._loop.call_later(_TICK, self._watch)

    def _give_up(self, call: _Call) -> None:
        self._collect()
        if call.ended or call.thread is None:
            return
        _log.error("a thread is lost: %s still runs %g s after its interruption", call.name, _LOST_AFTER)
        call.thread.lost = True
        message = f"{call.name} did not end within {_LOST_AFTER:g} s of its interruption"
        call.error = ThreadLost(message, at_timeout=call.interruption is _TimedOut)
        self.lost += 1
        self._threads -= 1
        self._end(call)
        if len(self._calls) > self._threads:
            self._start_thread()

    def _collect(self) -> None:
        self._waking = False  # before looking: a thread that reports from now on wakes the loop again
        while self._done:
            self._end(self._done.popleft())

    def _end(self, call: _Call) -> None:
        call.ended = True
        self._calls.discard(call)
        if not call.future.done():
            call.future.set_result(None)

    # --- in the threads

    def _report(self, call: _Call) -> None:
        """Hand an ended call to the loop, with one wake-up for all calls that end before the loop looks."""
        self._done.append(call)
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the loop is closed: nothing waits any more
                return


class _Call:
    """One call of one function. Its thread writes `thread`, `value` and `error`; the loop writes the rest.

    thread: the thread that took the call, None until then. interruption: the class that is raised inside the call, None
    while none is raised; raised_at: when it was last raised, by `time.monotonic()`. raising: True only while it is
    being raised. future: only wakes the waiting coroutine; the outcome is in `value` and `error`.
    """

    __slots__ = (
        "args", "context", "deadline", "ended", "error", "fn", "future", "interrupted_at", "interruption", "kwargs",
        "raised_at", "raising", "thread", "value",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        future: asyncio.Future[None],
        deadline: float | None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.deadline = deadline
        self.context = contextvars.copy_context()
        self.ended = False
        self.thread: _Thread | None = None
        self.interruption: type[Interruption] | None = None
        self.interrupted_at = self.raised_at = 0.0
        self.raising = False
        self.value: Any = _NOTHING
        self.error: BaseException | None = None

    @property
    def has_left(self) -> bool:
        """Whether the function has ended."""
        return self.error is not None or self.value is not _NOTHING

    @property
    def name(self) -> str:
        return str(getattr(self.fn, "__qualname__", type(self.fn).__name__))


class _Thread(threading.Thread):
    """A thread that runs call after call until it takes a None or is `lost`.

    An exception can be raised in a thread between any two steps of its Python code. The exception must hit the call it
    is meant for, not the next call and not the code around the calls. So the loop writes `interruption` and `raising`
    before it reads `current`, and the thread writes `current` before it reads `interruption` and `raising`: one of the
    two always sees what the other wrote. There is no lock, because an exception between taking a lock and holding it
    safely would leave the lock locked.
    """

    def __init__(self, queue: SimpleQueue[_Call | None], report: Callable[[_Call], None], number: int) -> None:
        super().__init__(name=f"jetq-task-{number}", daemon=True)
        self.current: _Call | None = None
        self.lost = False
        self._queue = queue
        self._report = report
        self._pid = os.getpid()

    def run(self) -> None:
        while not self.lost:
            call = self._queue.get()
            if call is None:
                self._queue.put(None)  # for the next thread
                return
            self._take(call)
            self._report(call)
            del call  # an idle thread keeps nothing alive

    def interrupt(self, call: _Call, interruption: type[Interruption]) -> None:
        """Raise `interruption` in this thread, if the thread runs `call`. Call this on the loop."""
        call.raising = True
        if self.current is call:
            _raise_in(self.ident, interruption)
        call.raising = False

    def interrupt_again(self, call: _Call, interruption: type[Interruption]) -> None:
        """Raise `interruption` once more, if `call` goes on as if it had not been raised. Call this on the loop. The
        first was swallowed: by code that catches everything, by an event loop in a callback, or by Python itself in a
        finalizer."""
        if not call.has_left and not _is_handled(self.ident):
            self.interrupt(call, interruption)

    def _take(self, call: _Call) -> None:
        """Run `call`. An exception that is raised here from outside, at most one after the function has ended, has
        ended or is withdrawn when this returns."""
        while True:
            try:
                if call.thread is None:
                    self._run(call)
                self._release(call)
                return
            except BaseException as late:  # the exception came after the function's last step
                if not call.has_left:
                    call.error = late

    def _run(self, call: _Call) -> None:
        self.current = call
        call.thread = self
        if call.interruption is not None:
            call.error = call.interruption()
            return
        try:
            call.value = call.context.run(call.fn, *call.args, **call.kwargs)
        except BaseException as error:
            call.error = error
        if is_child_of(self._pid):  # the function has forked
            end_child(call.error)

    def _release(self, call: _Call) -> None:
        """Have nothing raised for `call` from here on, and withdraw an exception that is on its way."""
        self.current = None
        while call.raising:
            time.sleep(0)
        if call.interruption is not None:
            self._withdraw()

    def _withdraw(self) -> None:
        with contextlib.suppress(_Withdrawn):
            self._replace()

    def _replace(self) -> None:
        """Raise another exception here in place of the one on its way. With none in its place, the interpreter goes on
        looking for it until an exception is raised anywhere: on Python 3.12 a call of a function was measured to take
        half as long again meanwhile, and on 3.11 a thread that a debugger traces stops for good (CPython 3.11.7,
        3.12.1)."""
        _raise_in(self.ident, _Withdrawn)
        while True:  # the exception comes within a turn or two
            pass


def _outcome(call: _Call, cancelled: asyncio.CancelledError | None) -> Any:
    """Return the value of an ended call, or raise what the call raised, or the cancellation that ended the call."""
    error, call.error = call.error, None
    try:
        if error is None:
            return call.value
        if cancelled is not None and not isinstance(error, ThreadLost):
            raise cancelled
        if isinstance(error, Interruption):
            error = error.error().with_traceback(error.__traceback__)
        raise error
    finally:
        del error, cancelled  # the exception's traceback would hold this frame, and the frame the exception


def _is_handled(ident: int | None) -> bool:
    """Return whether the thread `ident` is in an `except`, `finally` or end of a `with` to which an interruption has
    led."""
    handled = sys._current_exceptions()  # pyright: ignore[reportPrivateUsage]  # the documented way, as for frames
    error: Any = handled.get(ident or 0)
    if isinstance(error, tuple):  # Python 3.11: as `sys.exc_info` gives it
        error = error[1]
    for _ in range(_DEEPEST):
        if error is None:
            return False
        if isinstance(error, Interruption):
            return True
        error = error.__context__
    return False


def _raise_in(ident: int | None, error: type[BaseException]) -> None:
    """Raise `error` in the thread `ident` at its next step of Python code. `error` replaces an exception that was not
    raised there yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), ctypes.py_object(error))

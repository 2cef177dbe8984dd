"""Sync task functions in threads: started on demand, interrupted at their deadline, replaced when they never end."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from jetq.errors import JetqError, JobInterrupted, JobTimeout

__all__ = ["ThreadLost", "ThreadPool"]

_log = logging.getLogger("jetq.worker")

_LOST_AFTER = 10.0
"""Seconds after its interruption at which a thread that still runs is given up."""

_TICK = 0.05


class ThreadLost(JetqError):
    """A sync task did not end within 10 s of its interruption: its thread is given up and may still run."""


class _Call:
    """One call of one function, and the thread that runs it."""

    __slots__ = ("args", "context", "deadline", "ended", "error", "fn", "future", "interrupted_at", "kwargs", "lock", "thread", "value")  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        future: asyncio.Future[Any],
        deadline: float | None,
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.deadline = deadline
        self.context = contextvars.copy_context()
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.ended = False
        self.interrupted_at: float | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """In the thread."""
        with self.lock:
            self.thread = threading.get_ident()
        try:
            try:
                self.value = self.context.run(self.fn, *self.args, **self.kwargs)
            finally:
                # From here on no exception is sent to this thread; one sent just before may still arrive.
                with self.lock:
                    self.ended = True
        except BaseException as error:
            self.error = error
            self.ended = True

    def interrupt(self, error: type[BaseException], now: float) -> None:
        """Raise `error` in the thread, if it still runs this very call."""
        with self.lock:
            if self.ended or self.thread is None:
                return
            self.interrupted_at = now
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(error))


class ThreadPool:
    """Up to `size` threads for the functions of one worker, on the event loop it was made on."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._calls: set[_Call] = set()
        self._threads = 0
        self._idle = 0
        self._done: list[_Call] = []
        self._done_lock = threading.Lock()
        self._watcher: asyncio.TimerHandle | None = None
        self._closed = False
        self.lost = 0

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, deadline: float | None
    ) -> Any:
        """Call `fn` in a thread with this task's context and return its value, or raise what it raised.

        At `deadline` (`time.monotonic()`) JobTimeout is raised inside `fn`; this returns once its thread has ended, or
        raises ThreadLost 10 s later. Cancelling this call does not end the thread; `interrupt_all` does.
        """
        call = _Call(fn, args, kwargs, self._loop.create_future(), deadline)
        self._calls.add(call)
        if self._watcher is None:
            self._watcher = self._loop.call_later(_TICK, self._watch)
        self._queue.put(call)
        if self._threads < min(self._size, len(self._calls)):
            self._start_thread()
        try:
            return await call.future
        finally:
            if call.future.done():
                self._calls.discard(call)

    def interrupt_all(self) -> None:
        """Raise an exception in every thread that runs something; calls not started end at once."""
        for call in list(self._calls):
            if call.thread is None:
                call.deadline = None
                self._settle(call, JobInterrupted())
            elif call.interrupted_at is None:
                call.interrupt(JobInterrupted, time.monotonic())

    def close(self) -> None:
        """End the idle threads. One that still runs something ends after it, and does not keep the process alive."""
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
        for _ in range(self._threads):
            self._queue.put(None)

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"jetq-task-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self._queue.get()
            except (JobTimeout, JobInterrupted):  # sent to the call before, in the instant in which it ended
                continue
            if call is None:
                return
            if call.future.done():  # interrupted before it began
                continue
            try:
                call.run()
            except (JobTimeout, JobInterrupted) as late:  # it was on its way when the function ended
                call.error = late
            try:
                self._report(call)
            except (JobTimeout, JobInterrupted):  # likewise
                self._report(call)

    def _report(self, call: _Call) -> None:
        with self._done_lock:
            self._done.append(call)
            wake = len(self._done) == 1
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _collect(self) -> None:
        with self._done_lock:
            done, self._done = self._done, []
        for call in done:
            if call.error is not None:
                self._settle(call, call.error)
            elif not call.future.done():
                call.future.set_result(call.value)
                self._calls.discard(call)

    def _settle(self, call: _Call, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # a future refuses it (PEP 479)
            wrapped = RuntimeError("the task raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        if not call.future.done():
            call.future.set_exception(error)
            call.future.exception()  # when the attempt was abandoned, nobody asks any more
        self._calls.discard(call)

    def _watch(self) -> None:
        self._watcher = None
        now = time.monotonic()
        for call in list(self._calls):
            if call.interrupted_at is not None:
                if now - call.interrupted_at > _LOST_AFTER:
                    self._give_up(call)
            elif call.deadline is not None and call.deadline <= now:
                call.interrupt(JobTimeout, now)
        if self._calls and not self._closed:
            self._watcher = self._loop.call_later(_TICK, self._watch)

    def _give_up(self, call: _Call) -> None:
        if call.future.done():
            return
        self.lost += 1
        self._size += 1  # the lost thread's place
        name = getattr(call.fn, "__qualname__", "a function")
        _log.error("a thread is lost: %s still runs %g s after its timeout", name, _LOST_AFTER)
        self._settle(
            call, ThreadLost(f"{name} did not end within {_LOST_AFTER:g} s of its timeout; its thread is given up")
        )

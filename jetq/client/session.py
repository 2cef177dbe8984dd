"""The owner of the connections: one per event loop that awaits jetq, and one on a thread of jetq's own for all other
code."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import inspect
import os
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from jetq.client.fast_path import FastPath
from jetq.errors import BrokerUnavailable, JetqWarning
from jetq.model.job import EnqueueReceipt, JobRecord
from jetq.runtime.threads import depth, flush_logs, own_thread

if TYPE_CHECKING:
    from jetq.broker import Broker
    from jetq.broker.connect import Connect

__all__ = ["Begin", "Closed", "Session"]

T = TypeVar("T")

Begin = Callable[["Broker", Callable[[T | Exception], None], Callable[[], bool]], bool]
"""Work that needs no coroutine. Its arguments are the broker, a function to call later with the outcome (a value or an
error), and a function that tells whether the outcome is still wanted. The work returns False, and does nothing, if it
needs a coroutine after all."""

_EXIT_WITHIN = 3.0
_SIGNALS_WITHIN = 0.5
_TAKEN_WITHIN = 15.0
"""Seconds for jetq's own thread to take a call. That thread waits for nobody, so a call that is not taken by then never
will be."""

_DEEPEST = 3
_OWN_CODE = f"{Path(__file__).parents[1]}{os.sep}"

_abandoned: list[object] = []
"""What a forked child found of its parent's connections: kept from the garbage collector, which would close them."""


class Closed(BrokerUnavailable):
    """The app's connections were closed during a call: what the call began may have been done."""


class _Bound:
    """The broker of one event loop."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.broker: Broker | None = None
        self.closer: AsyncGenerator[None, None] | None = None


class Session:
    """The connections of one app in this process. Safe to use from any thread and loop, and after a fork.

    connect: makes a new broker for the running loop; code that needs a connection of its own calls it too. instant: see
    `CallSettings.due`.
    """

    def __init__(self, connect: Connect, instant: Callable[[float], float] = lambda at: at) -> None:
        self.connect = connect
        self.instant = instant
        self._warned = False
        self._forget()

    def _forget(self) -> None:
        self._bound: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bound] = WeakKeyDictionary()
        # Re-entrant, because a signal handler or a finalizer may run anywhere in here and enqueue.
        self._making = threading.RLock()
        self._threads: dict[int, _Thread] = {}
        self._direct = FastPath()
        self._clock: Broker | None = None
        self._pid = os.getpid()  # set last: code that runs in between does all of this again

    def _check_fork(self) -> None:
        # A child of os.fork shares the parent's sockets but has none of its threads, so the child starts from nothing.
        if os.getpid() != self._pid:
            _abandoned.append((dict(self._bound), self._threads, self._direct))
            self._forget()

    def connected(self) -> Broker | None:
        """Return the running loop's broker; None if the loop has no broker yet."""
        self._check_fork()
        bound = self._bound.get(asyncio.get_running_loop())
        return None if bound is None else bound.broker

    async def broker(self, *, patient: bool = False) -> Broker:
        """Return the running loop's broker, connected at first use and closed when the loop ends.

        Raises BrokerUnavailable if no connection can be made; unless `patient`, also if none is made in time.
        """
        self._check_fork()
        loop = asyncio.get_running_loop()
        bound = self._bound.get(loop)
        if bound is None:
            bound = self._bound.setdefault(loop, _Bound())
        if bound.broker is None:
            async with bound.lock:
                if bound.broker is None:
                    # In an empty context: the connection outlives the request or job that needed it first.
                    broker = await loop.create_task(self.connect(patient=patient), context=contextvars.Context())
                    bound.closer = self._close_with_loop(broker)
                    await bound.closer.__anext__()
                    bound.broker = self._clock = broker
        return bound.broker

    def now(self) -> float | None:
        """Return the broker's time in unix seconds; None if no broker that is connected here knows the time. Safe from
        any thread."""
        clock = self._clock
        return clock.now() if clock is not None and clock.knows_time else None

    async def time(self, queue: str, *, make: bool = True) -> float:
        """Return the broker's time in unix seconds. If the time is not known yet, the broker is asked about `queue`:
        see `Broker.time`. Raises BrokerError."""
        now = self.now()
        return await (await self.broker()).time(queue, make=make) if now is None else now

    async def _close_with_loop(self, broker: Broker) -> AsyncGenerator[None, None]:
        """Close `broker` when its loop shuts down its asynchronous generators, as `asyncio.run` does. Once begun, this
        generator is suspended until then."""
        try:
            yield
        finally:
            if self._clock is broker:
                self._clock = None
            await broker.close()

    async def aclose(self) -> None:
        """Close the running loop's connection, if there is one. The next use makes a new connection."""
        bound = self._bound.pop(asyncio.get_running_loop(), None)
        if bound is not None and bound.closer is not None:
            await bound.closer.aclose()

    def close(self) -> None:
        """End jetq's own thread and its connection. Must not be called from a job. The next use starts another thread.

        The connections of other loops end with those loops.
        """
        self._check_fork()
        with self._making:
            threads, self._threads = self._threads, {}
        for thread in threads.values():
            thread.stop()
        flush_logs()

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        """Store a plain job without crossing to jetq's thread. Return None if the job is not stored. Raises NotStored
        if nobody knows whether the job is stored. In both cases `run` does the rest."""
        self._check_fork()
        self._warn_on_running_loop()
        return self._direct.store(job)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], begin: Begin[T] | None = None) -> T:
        """Run `work()` on jetq's own thread and return its value: the one crossing from code that is not async.

        begin: the same work without a coroutine, tried first if there is a connection already. With `begin` many
        threads enqueue a third more, and one thread a tenth more.

        Works on a running loop too, which is blocked meanwhile, and warns about that once. Works on jetq's own thread
        as well, where a finalizer may run that enqueues: another thread of jetq's own takes that call.

        Guarantee: tests/integration/enqueueing/test_own_threads.py: from a logging handler, a signal handler, a
        finalizer, at the process' end and after a fork `run` works or raises, and never hangs.
        """
        self._check_fork()
        self._warn_on_running_loop()
        waiting = depth()
        crossing: _Crossing[T] = _Crossing(work, partial(self._begin, begin) if begin and not waiting else None)
        try:
            thread = self._threads.get(waiting)
            if thread is None or thread.stopped:
                thread = self._own_thread(waiting)
            crossing.begin(thread)
            crossing.wait(thread)
        except BaseException:  # for example KeyboardInterrupt, which can come anywhere in here: nobody waits any more
            crossing.cancel()
            raise
        return crossing.result()

    def _own_thread(self, waiting: int) -> _Thread:
        """Return the thread for calls from code that `waiting` of jetq's own threads wait for; make the thread if there
        is none."""
        if waiting >= _DEEPEST:
            raise BrokerUnavailable(
                "jetq was called on its own thread, by a finalizer within a finalizer",
                hint="enqueue where an object is used, not in its __del__",
            )
        with self._making:
            thread = self._threads.get(waiting)
            if thread is not None and not thread.stopped:
                return thread
            direct = FastPath()
            try:
                made = _Thread(partial(self._before_thread_ends, direct), waiting + 1)
            except RuntimeError as error:
                raise BrokerUnavailable(
                    f"jetq has no thread to work on: {error}", hint="enqueue before the interpreter ends"
                ) from None
            kept = self._threads.get(waiting)
            if kept is not None and not kept.stopped:  # made by a signal handler meanwhile
                made.stop()
                return kept
            if not waiting:
                self._direct = direct
            self._threads[waiting] = made
            return made

    def _begin(self, begin: Begin[T], on_done: Callable[[T | Exception], None], wanted: Callable[[], bool]) -> bool:
        bound = self._bound.get(asyncio.get_running_loop())
        if bound is None or bound.broker is None or not begin(bound.broker, on_done, wanted):
            return False
        self._direct.wanted(bound.broker)
        return True

    async def _before_thread_ends(self, direct: FastPath) -> None:
        await direct.aclose()
        await self.aclose()

    def _warn_on_running_loop(self) -> None:
        if self._warned or depth():  # on jetq's own threads only finalizers call, which cannot await
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._warned = True
        warnings.warn(
            "jetq was called without await on a running event loop, which it blocks until the broker has answered; "
            "await the a-twin instead: adelay, adelay_many, aresult",
            JetqWarning,
            stacklevel=_frames_inside_jetq(),
        )


class _Crossing(Generic[T]):
    """One call on another thread's loop, for whose result this thread waits.

    Uses a lock in place of the condition of a `concurrent.futures.Future`, because every `.delay` passes through here.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        begin: Callable[[Callable[[T | Exception], None], Callable[[], bool]], bool] | None,
    ) -> None:
        self._work = work
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._untaken = [True]  # the code that pops this decides whether the work is begun or given up
        self._value: T
        self._error: BaseException | None = None
        self._given_up = False
        self._ended = threading.Lock()
        self._ended.acquire()

    def begin(self, thread: _Thread) -> None:
        """Start the work on the loop of `thread`, in the caller's context. Raises BrokerUnavailable if the loop has
        ended."""
        self._loop = loop = thread.loop
        try:
            loop.call_soon_threadsafe(self._start, loop)
        except RuntimeError:  # the loop is closed
            raise _closed() from None

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._given_up or not self._take():
            return
        try:
            begun = self._begin is not None and self._begin(self._hear, self._is_wanted)
        except Exception as error:
            self._hear(error)
        else:
            if not begun:
                self._task = loop.create_task(self._run())

    def _take(self) -> bool:
        try:
            return self._untaken.pop()  # one step under the interpreter's lock
        except IndexError:
            return False

    async def _run(self) -> None:
        try:
            self._value = await self._work()
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended.release()

    def _is_wanted(self) -> bool:
        return not self._given_up

    def _hear(self, outcome: T | Exception) -> None:
        if isinstance(outcome, Exception):
            self._error = outcome
        else:
            self._value = outcome
        self._ended.release()

    def wait(self, thread: _Thread) -> None:
        """Block until the work has ended. Raises BrokerUnavailable if `thread` ends before, or does not begin the
        work."""
        # A signal that comes just as the wait begins does not interrupt the wait (CPython 3.11, seen with Ctrl-C on a
        # busy machine): the signal's handler runs at the next turn of this loop.
        waited = 0.0
        while not self._ended.acquire(timeout=_SIGNALS_WITHIN):
            waited += _SIGNALS_WITHIN
            if not thread.is_alive():
                if self._ended.acquire(timeout=0):  # the outcome came as the thread ended
                    return
                raise _closed()
            if waited >= _TAKEN_WITHIN and self._take():
                raise BrokerUnavailable(
                    f"jetq's own thread did not take the call within {_TAKEN_WITHIN:g} s: something blocks it, "
                    "and nothing was sent",
                    hint="`py-spy dump` shows at what the thread jetq-session stands",
                )

    def result(self) -> T:
        """Return or raise the outcome of the work, which must have ended. Raises BrokerUnavailable if the work was
        cancelled with its loop."""
        error, self._error = self._error, None  # an error must not refer to itself through its traceback's frames
        if isinstance(error, asyncio.CancelledError):
            raise _closed() from None
        if error is not None:
            try:
                raise error
            finally:
                error = None
        return self._value

    def cancel(self) -> None:
        """Cancel the work wherever it is; nothing may wait for the work any more. What was not sent yet is not sent."""
        self._given_up = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its tasks with it
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Thread:
    """An event loop on a daemon thread. `before_end` runs on the loop before the thread ends, by `stop` or with the
    process.

    depth: how many of jetq's own threads wait for what runs on this thread.
    """

    def __init__(self, before_end: Callable[[], Coroutine[Any, Any, None]], depth: int) -> None:
        self._before_end = before_end
        self._depth = depth
        self._pid = os.getpid()
        self._started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._main, name="jetq-session", daemon=True)
        self._thread.start()
        self.loop = self._started.result()
        self.stopped = False
        _serving[id(self)] = self

    def is_alive(self) -> bool:
        """Return whether the thread has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread, at most three seconds later. What still runs on the thread is cancelled."""
        self.stopped = True
        _serving.pop(id(self), None)
        if self._pid == os.getpid() and self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
            if self._thread is not threading.current_thread():
                self._thread.join(_EXIT_WITHIN)

    def _main(self) -> None:
        with own_thread(self._depth):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stopping.wait()
        await self._before_end()


_serving: dict[int, _Thread] = {}


@atexit.register
def _stop_all() -> None:
    # Registered when this module is imported, so that it runs after the exit handlers of the importing code, which may
    # still enqueue.
    for thread in list(_serving.values()):
        thread.stop()


def _closed() -> Closed:
    return Closed("the app's connections were closed before an answer came")


def _frames_inside_jetq() -> int:
    """Return how many frames up the caller of jetq is, for a warning that points at the caller."""
    depth = 0
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OWN_CODE):
        frame = frame.f_back
        depth += 1
    return depth

"""Who owns the connections: one per event loop that awaits jetq, and one on a thread of jetq's own for everybody else."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from jetq.broker import Broker
from jetq.errors import JetqWarning

__all__ = ["Connect", "Session"]

T = TypeVar("T")

_EXIT_WITHIN = 3.0
_OWN_CODE = str(Path(__file__).parent)


class Connect(Protocol):
    """Makes a broker for the running loop. With `patient` it does not give up while the broker is down."""

    async def __call__(self, *, patient: bool = False) -> Broker: ...


class _Bound:
    """The broker of one event loop."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.broker: Broker | None = None
        self.closer: AsyncGenerator[None, None] | None = None


class Session:
    """The connections of one app in this process. Safe to use from any thread and loop, and after a fork.

    connect: makes a new broker for the running loop; also for who needs a connection of its own.
    """

    def __init__(self, connect: Connect) -> None:
        self.connect = connect
        self._warned = False
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._bound: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bound] = WeakKeyDictionary()
        self._thread_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _check_fork(self) -> None:
        # A child of os.fork shares the parent's sockets but has none of its threads, so it starts from nothing.
        if os.getpid() != self._pid:
            self._forget()

    async def broker(self, *, patient: bool = False) -> Broker:
        """The running loop's broker, connected at first use and closed when the loop ends.

        Raises BrokerUnavailable if there is no connection to be had, in time unless `patient`.
        """
        self._check_fork()
        loop = asyncio.get_running_loop()
        bound = self._bound.get(loop)
        if bound is None:
            bound = self._bound.setdefault(loop, _Bound())
        if bound.broker is None:
            async with bound.lock:
                if bound.broker is None:
                    broker = await self.connect(patient=patient)
                    bound.closer = _close_with_loop(broker)
                    await bound.closer.__anext__()
                    bound.broker = broker
        return bound.broker

    async def aclose(self) -> None:
        """Close the running loop's connection, if there is one. The next use makes a new one."""
        bound = self._bound.pop(asyncio.get_running_loop(), None)
        if bound is not None and bound.closer is not None:
            await bound.closer.aclose()

    def close(self) -> None:
        """End jetq's own thread and its connection; not to be called from a job. The next use starts another.

        The connections of other loops end with those.
        """
        self._check_fork()
        with self._thread_lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            self._stop_thread(loop, self._pid)
            atexit.unregister(self._stop_thread)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work()` on jetq's own thread and return what it returns: the one crossing from code that is not async.

        Works on a running loop too, which it blocks meanwhile, and warns about that once.
        """
        self._check_fork()
        self._warn_on_running_loop()
        future = asyncio.run_coroutine_threadsafe(work(), self._thread_loop())
        try:
            return future.result()
        except (KeyboardInterrupt, concurrent.futures.CancelledError):
            future.cancel()
            raise

    def _warn_on_running_loop(self) -> None:
        if self._warned:
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

    def _thread_loop(self) -> asyncio.AbstractEventLoop:
        with self._thread_lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="jetq-session", daemon=True).start()
                atexit.register(self._stop_thread, self._loop, os.getpid())
            return self._loop

    def _stop_thread(self, loop: asyncio.AbstractEventLoop, pid: int) -> None:
        if pid != os.getpid() or loop.is_closed():
            return
        closing = asyncio.run_coroutine_threadsafe(self.aclose(), loop)
        with contextlib.suppress(Exception):  # the process ends anyway
            closing.result(timeout=_EXIT_WITHIN)
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _close_with_loop(broker: Broker) -> AsyncGenerator[None, None]:
    """Started once, this stays suspended until its loop shuts down its asynchronous generators, as `asyncio.run` does."""
    try:
        yield
    finally:
        await broker.close()


def _frames_inside_jetq() -> int:
    """How many frames up the caller of jetq stands, for a warning that points at it."""
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_CODE):
        frame = frame.f_back
        depth += 1
    return depth

"""The threads of jetq's own, which everybody waits for and which so must wait for nobody: least of all for user code.

A logging handler is user code, and whoever runs it holds the handler's lock. One that enqueues, on any thread, waits
for jetq's thread; if that thread logs meanwhile it waits for the lock: both for ever. So what these threads log is
handled on another thread.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

__all__ = ["LOGGERS", "depth", "flush_logs", "own_thread"]

LOGGERS = (
    "jetq.client",
    "jetq.connection",
    "jetq.jetstream",
    "jetq.supervisor",
    "jetq.worker",
    "asyncio",
    "nats.aio.client",
)
"""Those that anything on these threads logs to. A filter is asked for the records of its own logger alone."""

_MOST_WAITING = 1000
_FLUSHED_WITHIN = 1.0
_here = threading.local()


def depth() -> int:
    """How many of jetq's own threads wait for what runs here, this one included: 0 on all others."""
    return getattr(_here, "depth", 0)


@contextmanager
def own_thread(depth: int) -> Iterator[None]:
    """Declare this thread jetq's own until the context ends: what it logs is handled elsewhere."""
    _here.depth = depth
    _here.own = True
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_elsewhere)  # not twice: the logger looks
    try:
        yield
    finally:
        _here.own = False
        _here.depth = 0


def flush_logs() -> None:
    """Return once what was logged so far is handled, after a second at most."""
    _elsewhere.flush()


class _Elsewhere(logging.Filter):
    """Keeps the records of jetq's own threads back, and has a thread of its own handle them, in their order.

    Guarantee: tests/integration/enqueueing/test_own_threads.py: a logging handler that enqueues never stops jetq.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin anew: a forked child has none of its parent's threads, and perhaps a lock that nobody will release."""
        self._waiting: SimpleQueue[logging.LogRecord | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(_here, "own", False) or not self._start():
            return True
        if self._waiting.qsize() < _MOST_WAITING:  # a handler that hangs must not fill the memory
            self._waiting.put(record)
        return False

    def flush(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            handled = threading.Event()
            self._waiting.put(handled)
            handled.wait(_FLUSHED_WITHIN)

    def _start(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._handle, args=[self._waiting], name="jetq-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, and starts no threads any more
                return False
            self._thread = thread
        return True

    def _handle(self, waiting: SimpleQueue[logging.LogRecord | threading.Event]) -> None:
        while True:
            each = waiting.get()
            if isinstance(each, threading.Event):
                each.set()
                continue
            try:
                logging.getLogger(each.name).handle(each)
            except Exception:  # a handler lets it out: elsewhere it meets who logs, here it would end the thread
                logging.Handler().handleError(each)


_elsewhere = _Elsewhere()
atexit.register(flush_logs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_elsewhere.forget)

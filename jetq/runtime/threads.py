"""The threads of jetq's own. Other threads wait for them, so they must never wait for user code.

A logging handler is user code, and the thread that runs a handler holds the handler's lock. A handler that enqueues, on
any thread, waits for jetq's thread. If jetq's thread logs meanwhile, it waits for the handler's lock, and both threads
wait for ever. So another thread handles the log records of jetq's own threads.
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
"""The loggers that code on these threads logs to. Each needs the filter: Python asks a filter of a logger only for the
records that were logged to that logger itself."""

_MOST_WAITING = 1000
_FLUSHED_WITHIN = 1.0
_here = threading.local()


def depth() -> int:
    """Return how many of jetq's own threads wait for what runs on this thread, this thread included.

    0 on a thread that is not jetq's own.
    """
    return getattr(_here, "depth", 0)


@contextmanager
def own_thread(depth: int) -> Iterator[None]:
    """Declare this thread jetq's own until the context ends: another thread handles its log records.

    depth: what `depth()` returns on this thread meanwhile.
    """
    _here.depth = depth
    _here.own = True
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_elsewhere)  # the logger itself takes care not to add a filter twice
    try:
        yield
    finally:
        _here.own = False
        _here.depth = 0


def flush_logs() -> None:
    """Wait until all records that were logged so far are handled, one second at most."""
    _elsewhere.flush()


class _Elsewhere(logging.Filter):
    """Holds back the log records of jetq's own threads. A thread of its own handles these records, in their order.

    Guarantee: tests/integration/enqueueing/test_own_threads.py: a logging handler that enqueues never stops jetq.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin anew, with no thread and no waiting record.

        A forked child has none of its parent's threads, and may have a lock that no thread will release.
        """
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
            except RuntimeError:  # the interpreter is ending, and starts no more threads
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
            except Exception:  # what a handler raises would end this thread; elsewhere it goes to the code that logs
                logging.Handler().handleError(each)


_elsewhere = _Elsewhere()
atexit.register(flush_logs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_elsewhere.forget)

"""The end of a worker's process at a time that holds whatever the worker's code does."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

__all__ = ["AFTER_GRACE", "AT_ONCE", "HardEnd"]

AFTER_GRACE = 11.0
"""Seconds after the grace time at which a worker that was told to end has ended."""

AT_ONCE = 1.6
"""Seconds after which a worker that was told to end now has ended."""

_SAY_WITHIN = 0.3
"""Seconds to log what is cut off. A thread that holds the lock of a log handler may never release it."""

_log = logging.getLogger("jetq.worker")


class HardEnd:
    """Ends this process at a deadline, from a thread of its own: no task, thread, loop, hook or handler can keep the
    process alive.

    code: the exit code at that deadline, which may be changed at any time. left: yields a line about each thing that
    does not end; called in another thread.

    Guarantee: tests/e2e/test_endings.py: a worker that was told to end is gone within its grace time and 12 s, or
    within 2 s if it was told twice, whatever its jobs do.
    """

    def __init__(self, code: int, left: Callable[[], Iterable[str]]) -> None:
        self.code = code
        self.left = left
        self._at = math.inf
        self._earlier = threading.Condition()
        self._watching = False

    def within(self, seconds: float) -> None:
        """End the process at most `seconds` seconds from now. A deadline is never put off again."""
        with self._earlier:
            self._at = min(self._at, time.monotonic() + seconds)
            self._earlier.notify()
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="jetq-hard-end", daemon=True).start()

    def now(self) -> NoReturn:
        """End the process now. Log what is cut off, and do nothing else."""
        saying = threading.Thread(target=self._say, name="jetq-last-words", daemon=True)
        with suppress(RuntimeError):  # the system has no thread to give
            saying.start()
            saying.join(_SAY_WITHIN)
        os._exit(self.code)

    def _watch(self) -> None:
        with self._earlier:
            while (left := self._at - time.monotonic()) > 0:
                self._earlier.wait(left)
        self.now()

    def _say(self) -> None:
        for line in self.left():
            _log.error("%s", line)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        logging.shutdown()

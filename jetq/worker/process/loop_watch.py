"""Watches the event loop of a worker. A loop that does not turn is logged, with the code that blocks it: everything
else in its worker waits."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["LoopWatch"]

_log = logging.getLogger("jetq.worker")

_BLOCKED_AFTER = 1.0
"""Seconds after which a loop that does not turn counts as blocked. That is ten times what the garbage collector of a
large process takes, and long enough to delay every other job noticeably."""

_LOOP_LOOK_EVERY = 0.5
"""Seconds between looks at the loop."""

_FRAMES_SHOWN = 2
"""Frames shown of each end of a stack: where the code hangs, and which code of the task led there."""


class LoopWatch:
    """Watches, from a thread, the event loop of the thread that starts it. The loop has to call `turned` several times
    a second.

    running: names what the loop runs at the moment; called in the watching thread, while the loop is blocked.
    """

    def __init__(self, running: Callable[[], str]) -> None:
        self._running = running
        self._turned_at = time.monotonic()
        self._watched = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jetq-loop-watch", daemon=True)

    def start(self) -> None:
        """Watch the calling thread."""
        self._watched = threading.get_ident()
        self.turned()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def turned(self) -> None:
        """Note that the loop turns."""
        self._turned_at = time.monotonic()

    def _watch(self) -> None:
        announced: float | None = None
        looked_at = time.monotonic()
        while not self._stopping.wait(_LOOP_LOOK_EVERY):
            now, turned_at = time.monotonic(), self._turned_at
            frozen, looked_at = now - looked_at - _LOOP_LOOK_EVERY, now
            if announced is not None and turned_at != announced:
                _log.warning("the event loop goes on after %.1f s", turned_at - announced)
                announced = None
            if frozen > _BLOCKED_AFTER:  # this thread did not run either, so nothing is known of the loop
                _log.warning("the process stood still for %.1f s: stopped, or its interpreter's lock was held", frozen)
            elif now - turned_at > _BLOCKED_AFTER and announced is None:
                announced = turned_at
                self._announce(now - turned_at)

    def _announce(self, blocked: float) -> None:
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # the documented way to see other threads
        _log.warning(
            "%s has blocked the event loop for %.1f s, and all other jobs of this worker with it: it is at %s; "
            "await it, or let the task be a plain function, which runs in a thread",
            self._running(),
            blocked,
            _stack(frames.get(self._watched)),
        )


def _stack(frame: FrameType | None) -> str:
    """Return where the code is that jetq or the loop has called: `file.py:12 in function`, innermost first."""
    places: list[str] = []
    while frame is not None and (not places or not _is_ours(frame)):
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        frame = frame.f_back
    if len(places) > 2 * _FRAMES_SHOWN:
        places[_FRAMES_SHOWN:-_FRAMES_SHOWN] = ["..."]
    return ", called at ".join(places)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("asyncio", "jetq")

"""Worker processes: started, watched, started again, and ended together. What they work on is no matter here."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jetq.worker.process.ending import AFTER_GRACE, AT_ONCE
from jetq.worker.process.exit_status import in_words
from jetq.worker.process.health import DEAD_AFTER, SILENT_AFTER

__all__ = [
    "DEBUG_OFF", "DEBUG_ON", "HOPELESS", "IN_ORDER", "NOT_IN_ORDER", "NOT_READY", "READY", "RECYCLED", "SERVES",
    "Supervisor", "counted_signals",
]  # fmt: skip

IN_ORDER = 0
NOT_IN_ORDER = 1

HOPELESS = 2
"""Exit code of a process that would only fail again: usage or import. It means that only before `SERVES`: what runs
later may end its process with any code."""

RECYCLED = 83
"""Exit code of a process that ended in order to be replaced at once. Between supervisor and process only."""

SERVES = b"1"
"""What a process writes to its lifeline when it begins to work."""

READY, NOT_READY = b"+", b"-"
"""What it writes there every second from then on: whether it takes jobs."""

DEBUG_ON, DEBUG_OFF = getattr(signal, "SIGUSR1", None), getattr(signal, "SIGUSR2", None)
"""The signals by which a process that serves logs at level debug, and at its own level again, however often they come,
for a service manager may send them besides. None where there are none, as on Windows."""

_LOOK_AFTER_EVERY = 0.1
"""Seconds between looks after the processes: a signal is passed on late by at most this."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 30.0
"""Seconds before a process that ended too soon is started again."""

_SETTLED_AFTER = 60.0
"""Seconds after which a process has proved that it can live: the next backoff is the first again."""

_OVERTIME = 0.4
"""Seconds beyond that in which a process ends by itself after which it is killed: it keeps the interpreter's lock."""

_log = logging.getLogger("jetq.supervisor")


class Supervisor:
    """Keeps `processes` processes running until it is told to end, and then until they have ended.

    command: the words that start one. It gets the descriptor of a socket, the process's lifeline, which the process
    inherits: it reads end of file when the supervisor is gone, however it went, and takes SERVES, and READY or
    NOT_READY every second. And it gets whether
    the process is to introduce itself: the first one is, and one more after each change. burst: a process that ends
    with 0 is not started again. grace: seconds that the processes take at most to end in order, by what they were
    told. debug: sets the level of this process's log at DEBUG_ON and DEBUG_OFF, which go on to the processes.

    A process is started in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone. It has to
    take any number of SIGTERM as one request to end in order, for a service manager may send one besides, and SIGQUIT
    as the request to end now. Needs POSIX.
    """

    def __init__(
        self,
        command: Callable[[int, bool], Sequence[str]],
        *,
        processes: int,
        burst: bool,
        grace: float,
        debug: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._command = command
        self._set_debug = debug
        self._debug = False
        self._burst = burst
        self._grace = grace
        self._slots = [_ProcessSlot(number) for number in range(1, processes + 1)]
        self._outcome = IN_ORDER
        self._end_stage = 0  # 1: the processes were asked to end in order, 2: to end now, 3: they were killed
        self._watching = False
        self._looked_at = time.monotonic()

    def run(self, changes: Iterator[Sequence[Path]] | None = None) -> int:
        """Start the processes, and return when all have ended for good.

        IN_ORDER if all did so in order, NOT_IN_ORDER if a second signal or something else cut one short, HOPELESS if
        one ended with that at its first start, before it served. Handles SIGTERM and SIGINT meanwhile: call it in the
        main thread. changes: yields changed files, for which all processes are started anew, and something several
        times a second.
        """
        self._watching = changes is not None
        try:
            with counted_signals() as signals, _levels(self._change_level):
                self._look_after_all()
                for changed in changes or _ticks():
                    self._pass_on(signals())
                    if changed and not self._end_stage:
                        self._start_anew(changed)
                    self._look_after_all()
                    if all(slot.process is None and (slot.done or self._end_stage) for slot in self._slots):
                        break
        finally:
            for slot in self._slots:
                slot.let_go()  # whatever still runs because of an error here ends by that
        return self._outcome

    def liveness_problem(self) -> str | None:
        """See `health.Condition`: this loop, or a process that served, has been silent for too long."""
        silent = time.monotonic() - self._looked_at
        if silent > DEAD_AFTER:
            return f"the supervisor has been stuck for {silent:.0f} s"
        return next((problem for slot in self._slots if (problem := slot.liveness_problem()) is not None), None)

    def readiness_problem(self) -> str | None:
        """See `health.Condition`: one process that takes jobs is enough."""
        if self._end_stage:
            return "stopping"
        return None if any(slot.is_ready() for slot in self._slots) else "no worker process takes jobs"

    def _look_after_all(self) -> None:
        self._looked_at = time.monotonic()
        for slot in self._slots:
            self._look_after(slot)

    def _look_after(self, slot: _ProcessSlot) -> None:
        """Hear what it says, note an end, kill what hangs, start what is due."""
        slot.listen()
        slot.set_debug(self._debug)
        now = time.monotonic()
        if slot.process is not None:
            code = slot.process.poll()
            if code is not None:
                self._note_end(slot, code)
            elif now > slot.deadline:
                _log.error("%s does not end; killing it", slot)
                slot.process.kill()
                slot.deadline = math.inf
        if slot.process is None and not slot.done and not self._end_stage and now >= slot.due:
            self._start(slot)

    def _start(self, slot: _ProcessSlot) -> None:
        try:
            slot.begin(self._command)
        except OSError as error:  # no memory, no process left, too many files
            self._start_later(slot, f"cannot start worker process {slot.number}: {error.strerror}")
            return
        slot.starts += 1
        slot.started_at = time.monotonic()
        slot.deadline = math.inf
        slot.introduces = False
        slot.renewing = False
        _log.info("%s started", slot)

    # --- ends

    def _note_end(self, slot: _ProcessSlot, code: int) -> None:
        """What becomes of the place of a process that has ended: stays empty, is filled at once, or later."""
        ended = f"{slot} ended: {in_words(code)}"
        lived = time.monotonic() - slot.started_at
        slot.listen()
        hopeless = code == HOPELESS and not slot.served
        slot.process = None
        slot.let_go()
        slot.due = 0.0
        if lived >= _SETTLED_AFTER:
            slot.backoff = 0.0
        if self._end_stage:
            self._note_last_end(ended, code)
        elif slot.renewing or code == RECYCLED:
            slot.backoff = 0.0
            _log.info("%s; starting another", ended)
        elif code == 0 and self._burst:
            slot.done = True
            _log.info("%s", ended)
        elif hopeless and slot.starts == 1:
            _log.error("%s at its first start", ended)
            self._outcome = HOPELESS
            self._stop()
        elif hopeless and self._watching:
            slot.due = math.inf
            _log.error("%s; waiting for a change of the code", ended)
        else:
            self._start_later(slot, ended)

    def _note_last_end(self, ended: str, code: int) -> None:
        # A process that SIGTERM ends by itself had not begun to work, or had ended it.
        if code in (0, RECYCLED, -signal.SIGTERM) or self._outcome == HOPELESS:
            _log.info("%s", ended)
            return
        _log.warning("%s", ended)
        self._outcome = NOT_IN_ORDER

    def _start_later(self, slot: _ProcessSlot, why: str) -> None:
        slot.backoff = min(max(_FIRST_BACKOFF, slot.backoff * 2), _LAST_BACKOFF)
        slot.due = time.monotonic() + slot.backoff
        _log.warning("%s; starting it again in %g s", why, slot.backoff)

    # --- signals

    def _pass_on(self, heard: int) -> None:
        """The first signal asks the processes to end in order, the second to end now, the third kills them. `heard` are
        those so far."""
        if heard and not self._end_stage:
            _log.info("stopping: running jobs may end; once more gives them back at once")
            self._stop()
        if heard > 1 and self._end_stage == 1:
            _log.warning("stopping now: running jobs are given back")
            self._end_stage = 2
            self._outcome = NOT_IN_ORDER
            self._send_all(signal.SIGQUIT, AT_ONCE)
        if heard > 2 and self._end_stage == 2:
            _log.warning("ending at once: what runs comes back when its lease ends")
            self._end_stage = 3
            self._send_all(signal.SIGKILL, 0.0)

    def _change_level(self, debug: bool) -> None:
        self._debug = debug
        self._set_debug(debug)

    def _stop(self) -> None:
        self._end_stage = 1
        self._send_all(signal.SIGTERM, self._grace + AFTER_GRACE)

    def _start_anew(self, changed: Sequence[Path]) -> None:
        names = ", ".join(path.name for path in changed[:3])
        _log.info("%s changed: starting the worker processes anew", names)
        for slot in self._slots:
            slot.renewing = True
            slot.introduces = slot.number == 1
            slot.due = 0.0
            slot.backoff = 0.0
        self._send_all(signal.SIGTERM, self._grace + AFTER_GRACE)

    def _send_all(self, number: signal.Signals, within: float) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.send_signal(number)
                slot.deadline = time.monotonic() + within + _OVERTIME


class _ProcessSlot:
    """Where one process runs, and the next after it.

    due: when the next may start, by the monotonic clock. done: none will. renewing: the present one was asked to end
    for another. deadline: when the present one is killed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.started_at = 0.0
        self.due = 0.0
        self.backoff = 0.0
        self.deadline = math.inf
        self.introduces = number == 1
        self.renewing = False
        self.done = False
        self.served = False
        self._debug = False
        self._ready = False
        self._heard = 0.0
        self._lifeline: socket.socket | None = None

    def begin(self, command: Callable[[int, bool], Sequence[str]]) -> None:
        """Start its next process."""
        own, theirs = socket.socketpair()
        with theirs:
            try:
                words = command(theirs.fileno(), self.introduces)
                self.process = subprocess.Popen(words, pass_fds=(theirs.fileno(),), start_new_session=True)
            except BaseException:
                own.close()
                raise
        own.setblocking(False)
        self._lifeline = own
        self.served = self._ready = self._debug = False

    def listen(self) -> None:
        """Hear what its process has said since."""
        if self._lifeline is None:
            return
        try:
            said = self._lifeline.recv(4096)
        except OSError:  # nothing
            return
        if said:
            self.served = True
            self._ready = said.endswith(READY)
            self._heard = time.monotonic()

    def set_debug(self, debug: bool) -> None:
        """Tell its process the level of its log, once that serves: before, the signal would end it."""
        number = DEBUG_ON if debug else DEBUG_OFF
        if self.process is not None and self.served and debug != self._debug and number is not None:
            self.process.send_signal(number)
            self._debug = debug

    def is_ready(self) -> bool:
        """Whether its process lately said that it takes jobs."""
        return self.process is not None and self._ready and time.monotonic() - self._heard <= SILENT_AFTER

    def liveness_problem(self) -> str | None:
        """Why its process does not live, though it is there; None if it does."""
        silent = time.monotonic() - self._heard
        if self.process is None or not self.served or silent <= DEAD_AFTER:
            return None
        return f"the event loop of {self} has been blocked for {silent:.0f} s"

    def let_go(self) -> None:
        """Hold its process no longer: should it run, it is to end."""
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None

    def __str__(self) -> str:
        pid = "" if self.process is None else f" (pid {self.process.pid})"
        return f"worker process {self.number}{pid}"


def _ticks() -> Iterator[Sequence[Path]]:
    while True:
        time.sleep(_LOOK_AFTER_EVERY)
        yield ()


@contextlib.contextmanager
def _levels(change: Callable[[bool], None]) -> Iterator[None]:
    """Calls `change` at DEBUG_ON with True, and at DEBUG_OFF with False."""
    before = {number: signal.getsignal(number) for number in (DEBUG_ON, DEBUG_OFF) if number is not None}
    for number in before:
        signal.signal(number, lambda heard, _: change(heard == DEBUG_ON))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def counted_signals() -> Iterator[Callable[[], int]]:
    """Counts SIGTERM and SIGINT from here on instead of ending the process."""
    count = 0

    def on_signal(*_: object) -> None:
        nonlocal count
        count += 1

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

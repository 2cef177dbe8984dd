"""The supervisor of worker processes: starts them, watches them, starts them again, and ends them together. The
supervisor does not know what the processes work on."""

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
"""Exit code of a supervisor whose processes all ended in order."""
NOT_IN_ORDER = 1
"""Exit code of a supervisor that saw a process cut short."""

HOPELESS = 2
"""Exit code of a process that would only fail again: wrong usage, or an import that fails. The code has this meaning
only before `SERVES`: code that runs later may end its process with any exit code."""

RECYCLED = 83
"""Exit code of a process that ended in order to be replaced at once. The code is used between supervisor and process
only."""

SERVES = b"1"
"""The byte that a process writes to its lifeline when it begins to work."""

READY, NOT_READY = b"+", b"-"
"""The byte that a process writes to its lifeline every second from then on: whether the process takes jobs."""

DEBUG_ON, DEBUG_OFF = getattr(signal, "SIGUSR1", None), getattr(signal, "SIGUSR2", None)
"""The signals that set the log level of a process that serves: to debug, and back to its own level. A signal may come
any number of times, because a service manager may send it too. None where there are no such signals, as on Windows."""

_LOOK_AFTER_EVERY = 0.1
"""Seconds between looks after the processes: a signal is passed on late by at most this time."""

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 30.0
"""The first and the most seconds before a process that ended too soon is started again."""

_SETTLED_AFTER = 60.0
"""Seconds after which a process has proved that it can live: the next backoff is the first again."""

_OVERTIME = 0.4
"""Seconds beyond the time in which a process ends by itself after which the supervisor kills it: such a process keeps
the interpreter's lock."""

_log = logging.getLogger("jetq.supervisor")


class Supervisor:
    """Keeps `processes` processes running until the supervisor is told to end, and then until the processes have ended.

    command: returns the words that start a process. `command` gets the descriptor of a socket, the process's lifeline,
    which the process inherits. The process reads end of file from the lifeline when the supervisor is gone, however
    that happened, and writes SERVES, and READY or NOT_READY every second. `command` also gets whether the process is to
    introduce itself: the first process is, and one more after each change. burst: a process that ends with 0 is not
    started again. grace: the most seconds that the processes take to end in order, by what they were told. debug: sets
    the level of the supervisor's log at DEBUG_ON and DEBUG_OFF, which are passed on to the processes.

    A process is started in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone. The process
    has to take any number of SIGTERM as one request to end in order, because a service manager may send one too, and
    SIGQUIT as the request to end now. Needs POSIX.
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

        Return IN_ORDER if all processes ended in order, NOT_IN_ORDER if a second signal or something else cut one
        short, HOPELESS if one ended with that code at its first start, before it served. Handles SIGTERM and SIGINT
        meanwhile: call this in the main thread. changes: yields changed files, for which all processes are started
        anew, and something several times a second.
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
                slot.let_go()  # a process that still runs because of an error here ends by this
        return self._outcome

    def liveness_problem(self) -> str | None:
        """See `health.Condition`: the supervisor's loop, or a process that served, has been silent for too long."""
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
        """Read the reports of the slot's process, note its end, kill it if it hangs, or start the next one if that is
        due."""
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
        except OSError as error:  # the system has no memory or process left, or too many open files
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
        """Decide about the place of a process that has ended: it stays empty, is filled at once, or is filled later."""
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
        # A process that SIGTERM ends without its handler had not begun to work, or had ended its work.
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
        """Pass the signals on: the first asks the processes to end in order, the second to end now, the third kills
        them. `heard` is how many signals have come so far."""
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
    """The place of one process, and of the next process after it.

    due: when the next process may start, by the monotonic clock. done: no next process will start. renewing: the
    present process was asked to end for another one. deadline: when the present process is killed.
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
        """Start the next process of this slot."""
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
        """Read what the slot's process has written since the last call."""
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
        """Tell the slot's process the level of its log, once the process serves: before that, the signal would end the
        process."""
        number = DEBUG_ON if debug else DEBUG_OFF
        if self.process is not None and self.served and debug != self._debug and number is not None:
            self.process.send_signal(number)
            self._debug = debug

    def is_ready(self) -> bool:
        """Return whether the slot's process lately reported that it takes jobs."""
        return self.process is not None and self._ready and time.monotonic() - self._heard <= SILENT_AFTER

    def liveness_problem(self) -> str | None:
        """Return why the slot's process does not live although it exists; None if it lives or there is no process."""
        silent = time.monotonic() - self._heard
        if self.process is None or not self.served or silent <= DEAD_AFTER:
            return None
        return f"the event loop of {self} has been blocked for {silent:.0f} s"

    def let_go(self) -> None:
        """Close the lifeline of the slot's process: if the process still runs, it is to end."""
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
    """Call `change` at DEBUG_ON with True, and at DEBUG_OFF with False, while the context is open."""
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
    """Count SIGTERM and SIGINT while the context is open, instead of ending the process. Yield a function that returns
    the count."""
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

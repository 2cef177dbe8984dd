"""Code that comes where nobody expects it, and enqueues: handlers of logs and signals, finalizers, a process' end."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

import jetq
from jetq import Jetq
from jetq.errors import BrokerUnavailable, JetqError
from jetq.runtime.threads import LOGGERS, flush_logs
from tests.servers import NatsServerFactory

ROOT = Path(jetq.__file__).parent
WITHIN = 60.0
"""Seconds for anything here to end: what hangs, hangs longer."""


def record(n: int) -> int:
    return n


@pytest.fixture
def app(nats_url: str) -> Iterator[Jetq]:
    app = Jetq(nats_url, namespace=f"t{token_hex(4)}")
    yield app
    app.session.close()


def within(work: Callable[[], object]) -> None:
    """Do it on a thread of its own. Fails if that does not end; raises what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN)
    assert not thread.is_alive(), f"it hangs, after {WITHIN:g} s"
    if errors:
        raise errors[0]


VERBS: dict[str, Callable[[Jetq, Any], object]] = {
    "delay": lambda app, task: task.delay(1),
    "keyed": lambda app, task: task.options(key="k").delay(1),
    "scheduled": lambda app, task: task.options(delay=60).delay(1),
    "delay_many": lambda app, task: task.delay_many([task.bind(1), task.bind(2)]),
    "status": lambda app, task: task.delay(1).status(),
    "cancel": lambda app, task: task.delay(1).cancel(timeout=1),
    "schedules": lambda app, task: app.schedules(),
}


class Enqueues(logging.Handler):
    """Does `work` for each record, on whichever thread, and not for those that come of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(logging.WARNING)
        self.work = work
        self.threads: list[str] = []
        self.done = threading.Semaphore(0)
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(self._busy, "on", False):
            self._busy.on = True
            try:
                self.threads.append(threading.current_thread().name)
                self.work()
                self.done.release()
            finally:
                self._busy.on = False


@contextlib.contextmanager
def handling(handler: logging.Handler) -> Iterator[None]:
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        flush_logs()  # what it is about to do would be done after the app's session was closed, and open another


async def warn() -> None:
    logging.getLogger("jetq.connection").warning("as of a lost connection")


@pytest.mark.parametrize("verb", VERBS)
def test_a_log_handler_enqueues_for_what_jetqs_own_thread_logs(app: Jetq, verb: str) -> None:
    task = app.task(name="record")(record)
    handler = Enqueues(lambda: VERBS[verb](app, task))
    with handling(handler):
        within(lambda: app.session.run(warn))
        assert handler.done.acquire(timeout=WITHIN)
    assert "jetq-session" not in handler.threads
    within(lambda: task.delay(1))


def test_a_log_handler_that_enqueues_holds_its_lock_while_jetqs_own_thread_logs(app: Jetq) -> None:
    """Guarantee: a logging handler that enqueues on any thread never stops jetq, whose thread may log meanwhile."""
    handler = Enqueues(lambda: app.session.run(warn))
    with handling(handler):
        within(lambda: logging.getLogger("an.app").warning("something of its own"))
        assert handler.done.acquire(timeout=WITHIN)


def test_a_log_handler_that_enqueues_outlives_a_restart_of_the_server(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    app = Jetq(server.url, namespace="handler", connect_timeout=1, publish_timeout=1)
    task = app.task(name="record")(record)
    handled = threading.Event()

    def enqueue() -> None:
        with contextlib.suppress(JetqError):
            task.delay(1)
        handled.set()

    with handling(Enqueues(enqueue)):
        task.delay(0)
        server.kill()
        assert handled.wait(WITHIN)
        server.start()
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                within(lambda: task.delay(2))
                break
            except JetqError:
                assert time.monotonic() < deadline
    app.session.close()


def test_every_logger_of_jetqs_is_handled_elsewhere() -> None:
    source = "".join(path.read_text("utf-8") for path in ROOT.rglob("*.py"))
    named = {part.partition('"')[0] for part in source.split('getLogger("')[1:]}
    assert named <= set(LOGGERS)


def test_a_log_handler_that_raises_stops_nothing(app: Jetq, capsys: pytest.CaptureFixture[str]) -> None:
    handler = Enqueues(lambda: 1 / 0)
    with handling(handler):
        for _ in range(2):
            within(lambda: app.session.run(warn))
        flush_logs()
    assert len(handler.threads) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


class Unwanted:
    """Its finalizer does something."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work

    def __del__(self) -> None:
        self.work()


@pytest.mark.parametrize("verb", VERBS)
def test_a_finalizer_enqueues_on_jetqs_own_thread(app: Jetq, verb: str) -> None:
    task = app.task(name="record")(record)
    done: list[str] = []

    def work() -> None:
        VERBS[verb](app, task)
        done.append(threading.current_thread().name)

    async def drop() -> None:
        Unwanted(work)

    within(lambda: app.session.run(drop))
    assert done == ["jetq-session"]


def test_finalizers_within_finalizers_are_refused_at_some_depth(app: Jetq) -> None:
    refused: list[BrokerUnavailable] = []

    def deeper() -> None:
        try:
            app.session.run(drop)
        except BrokerUnavailable as error:
            refused.append(error)

    async def drop() -> None:
        Unwanted(deeper)

    within(lambda: app.session.run(drop))
    assert "finalizer within a finalizer" in str(refused[0])


def test_a_signal_handler_enqueues_while_the_main_thread_does(app: Jetq) -> None:
    task = app.task(name="record")(record)
    stored: list[str] = []
    usual = signal.signal(signal.SIGALRM, lambda number, frame: stored.append(task.delay(1).id))
    stopped = threading.Event()

    def pull_up() -> None:
        if not stopped.wait(WITHIN):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.raise_signal(signal.SIGINT)

    guard = threading.Thread(target=pull_up)
    guard.start()
    try:
        task.delay(0)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        deadline = time.monotonic() + WITHIN / 2
        while len(stored) < 100 and time.monotonic() < deadline:
            task.delay(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
        stopped.set()
        guard.join()
    assert len(set(stored)) >= 10


PROGRAM = """
import atexit, os, sys, threading
{before}
from jetq import Jetq
app = Jetq(sys.argv[1], namespace=sys.argv[2])
@app.task(name="record")
def record(n: int) -> int: return n
def late():
    try:
        print("stored", record.delay(2).status(), flush=True)
    except Exception as error:
        print("raised", type(error).__name__, flush=True)
{then}
"""


def run_program(url: str, *, before: str = "", then: str) -> list[str]:
    """What the program printed. Fails if it does not end."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(before=before, then=then), url, f"t{token_hex(4)}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


BETWEEN_ANY_TWO_LINES = """
import jetq
inside = os.path.dirname(jetq.__file__) + os.sep
stored = []
seen = set()  # once between two lines: how often a loop goes round depends on the machine
def everywhere(frame, event, arg):
    if not frame.f_code.co_filename.startswith(inside):
        return None
    line = (frame.f_code.co_filename, frame.f_lineno)
    if event == "line" and line not in seen:
        seen.add(line)
        sys.settrace(None)
        try:
            stored.append(record.delay(1).id)
        finally:
            sys.settrace(everywhere)
    return everywhere
for _ in range(3):  # the first makes the thread and connects
    seen.clear()
    sys.settrace(everywhere)
    try:
        stored.append(record.delay(0).id)
    finally:
        sys.settrace(None)
print(len(set(stored)), {app.job(id).status() for id in stored[:: len(stored) // 10]})
"""


def test_it_may_come_between_any_two_lines_of_an_enqueue(nats_url: str) -> None:
    """Guarantee: a signal handler or finalizer that comes anywhere in a `.delay`, and enqueues, does; so does that."""
    (said,) = run_program(nats_url, then=BETWEEN_ANY_TWO_LINES)
    count, statuses = said.split(" ", 1)
    assert int(count) > 100
    assert statuses == "{'queued'}"


def test_at_exit_it_enqueues(nats_url: str) -> None:
    (said,) = run_program(nats_url, then="record.delay(1); atexit.register(late)")
    assert said == "stored queued"
    (said,) = run_program(nats_url, then="atexit.register(late); record.delay(1)")
    assert said == "stored queued"


def test_at_exit_after_jetqs_own_end_it_enqueues_or_raises(nats_url: str) -> None:
    (said,) = run_program(nats_url, before="atexit.register(lambda: late())", then="record.delay(1)")
    # From Python 3.12 on no thread may be started by then, or only just.
    assert said == "stored queued" or (said == "raised BrokerUnavailable" and sys.version_info >= (3, 12))


FORK = """
def forked():
    record.delay(1)
    child = os.fork()
    if not child:
        inner = threading.Thread(target=late)
        inner.start(); inner.join()
        late()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
record.delay(1)
outer = threading.Thread(target=forked)
outer.start(); outer.join()
late()
"""


def test_a_child_forked_by_a_thread_enqueues_from_its_threads(nats_url: str) -> None:
    assert run_program(nats_url, then=FORK) == ["stored queued", "stored queued", "7", "stored queued"]


def test_a_call_that_jetqs_thread_never_takes_is_given_up_and_sent_no_more(
    app: Jetq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jetq.client.session._TAKEN_WITHIN", 1.0)
    blocked, release = threading.Event(), threading.Event()
    ran: list[int] = []

    async def block() -> None:
        blocked.set()
        release.wait(WITHIN)

    async def late() -> None:
        ran.append(1)

    blocker = threading.Thread(target=lambda: app.session.run(block))
    blocker.start()
    assert blocked.wait(WITHIN)
    with pytest.raises(BrokerUnavailable, match="did not take the call"):
        app.session.run(late)
    release.set()
    blocker.join(WITHIN)
    app.session.run(warn)
    assert not ran

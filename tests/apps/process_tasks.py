"""Functions that run in processes of the pool."""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path

from jetq import Jetq, RateLimited, Reject, Retry, Snooze, current_job, task
from jetq.client.app import default_app


class Odd(Exception):
    """It cannot be unpickled: its constructor takes two."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@task(run_in="process")
def pid() -> int:
    return os.getpid()


@task(run_in="process")
def whoami() -> tuple[str, int]:
    return current_job().id, current_job().attempt


@task(run_in="process")
def where_in_its_workflow(_: int = 0) -> tuple[str | None, int, str, str] | None:
    job = current_job()
    if job.workflow is None:
        return None
    return job.step, job.index, job.workflow.id, job.workflow.status()


@task(run_in="process")
def forks(number: int) -> int | None:
    child = os.fork()
    if child == 0:
        if number == 3:
            raise ValueError("in the child")
        if number < 2:
            sys.exit((3, "no good")[number])
        return None
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@task(run_in="process")
def raises(name: str) -> None:
    raise getattr(builtins, name, asyncio.CancelledError)


@task(run_in="process")
def says() -> int:
    logging.getLogger("an.app").warning("said in a process")
    return 1


@task(run_in="process")
def unawaited() -> object:
    return asyncio.sleep(0)


@task(run_in="process")
def unread() -> object:
    return (n for n in range(3))


@task(run_in="process")
def fails() -> None:
    raise LookupError("no such thing")


@task(run_in="process")
def fails_oddly() -> None:
    raise Odd("one", "two")


@task(run_in="process", timeout=0.5, max_attempts=1)
def loops(started: str) -> None:
    Path(started).touch()
    while True:
        pass


@task(run_in="process", timeout=0.5, max_attempts=1)
def sleeps_in_c(started: str) -> None:
    Path(started).touch()
    ctypes.CDLL(None).sleep(60)


@task(run_in="process", max_crashes=2, dead_on=BaseException)  # which a crash is not
def dies(how: str, starts: str) -> None:
    with open(starts, "a") as noted:
        noted.write("x")
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@task(run_in="process")
def waits(started: str, seconds: float) -> str:
    Path(started).touch()
    time.sleep(seconds)
    return "done"


@task(run_in="process")
def has_a_child(started: str) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(started).write_text(str(child.pid))
    child.wait()


@task(run_in="process")
def leaves_a_child() -> tuple[int, int]:
    return os.getpid(), subprocess.Popen(["sleep", "60"]).pid


@task(run_in="process")
def returns_a_lock() -> object:
    return threading.Lock()


@task(run_in="process")
def logs(text: str) -> None:
    logging.getLogger("app.of.the.user").warning("%s", text)


@task(run_in="process", max_attempts=2, wait=0)
def asks_again() -> int:
    if current_job().attempt == 1:
        raise Retry(after=0)
    return current_job().attempt


SETTING: ContextVar[int] = ContextVar("SETTING", default=0)


class Holding(LookupError):
    """It holds what cannot be pickled, and something that can."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.lock = threading.Lock()


class Unreadable:
    """It can be pickled and not be read again."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


@task(run_in="process")
def snoozes() -> None:
    raise Snooze(7)


@task(run_in="process")
def retries() -> None:
    raise Retry(after=3, arguments={"a": 1})


@task(run_in="process")
def fails_holding() -> None:
    raise Holding(5)


@task(run_in="process")
def fails_locally() -> None:
    class Local(Exception):
        pass

    raise Local("from nowhere")


@task(run_in="process")
def sets_a_variable() -> int:
    SETTING.set(SETTING.get() + 1)
    return SETTING.get()


@task(run_in="process")
def environment() -> dict[str, str]:
    return dict(os.environ)


@task(run_in="process")
def returns_the_unreadable() -> object:
    return Unreadable()


@task(run_in="process")
def logs_the_unreadable() -> int:
    logging.getLogger("app.of.the.user").warning("with something", extra={"thing": Unreadable()})
    return os.getpid()


@task(run_in="process")
def same(data: bytes) -> bytes:
    return data


@task(run_in="process")
def forks_and_returns() -> str:
    forked = os.fork()
    if not forked:
        logging.getLogger("app.of.the.user").info("from the forked one")
        return "the forked one"
    os.waitpid(forked, 0)
    return "the process"


@task(run_in="process")
def forks_and_dies(started: str) -> None:
    forked = os.fork()
    if not forked:
        time.sleep(60)
        os._exit(0)
    Path(started).write_text(str(forked))
    os._exit(3)


@task(run_in="process")
def prints(text: str) -> None:
    sys.stdout.write(text)


@task(run_in="process")
def prints_and_waits(text: str, started: str) -> None:
    sys.stdout.write(f"{text}\n")
    Path(started).touch()
    time.sleep(60)


@task(run_in="process")
def namespaces() -> tuple[str, str]:
    """Of the app that a job enqueued by a task here goes to, and of the one of threads that a task starts."""
    enqueues = pid._app()
    assert isinstance(enqueues, Jetq)
    return enqueues.settings.namespace, default_app().settings.namespace


@task
async def echoes(text: str) -> str:
    return text


@task(run_in="process")
def enqueues_another(text: str) -> str:
    return echoes.delay(text).id


class OddReject(Reject):
    """One of the user's own, which cannot be unpickled by its constructor."""

    def __init__(self, order: int, *, why: str) -> None:
        super().__init__(f"order {order}: {why}")
        self.order = order


@task(run_in="process", max_attempts=1)
def retries_what_failed(raised_from: bool, reason: str | None) -> None:
    try:
        raise OSError(111, "refused")
    except OSError as error:
        if raised_from:
            raise Retry(3, reason=reason) from error
        raise Retry(3, reason=reason)  # noqa: B904


@task(run_in="process")
def raises_a_group(kind: str) -> None:
    class Local(Exception):
        pass

    steers = {
        "snooze": Snooze(7),
        "limited": RateLimited(8),
        "retry": Retry(after=3, arguments={"a": 1}),
        "reject": OddReject(17, why="no address"),
        "holding": Holding(5),
    }
    raise ExceptionGroup("g", [Odd("one", "two"), ExceptionGroup("in", [Local("from nowhere"), steers[kind]])])


@task(run_in="process")
def returns_a_retry() -> None:
    return Retry(1)  # type: ignore[return-value]

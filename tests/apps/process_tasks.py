"""Functions that run in processes of the pool."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

from jetq import Retry, current_job, task


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


@task(run_in="process", max_crashes=2)
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
def returns_a_lock() -> object:
    import threading

    return threading.Lock()


@task(run_in="process")
def logs(text: str) -> None:
    logging.getLogger("app.of.the.user").warning("%s", text)


@task(run_in="process", max_attempts=2, wait=0)
def asks_again() -> int:
    if current_job().attempt == 1:
        raise Retry(after=0)
    return current_job().attempt

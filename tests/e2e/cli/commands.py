"""What the tests of the command line share: the tasks of their projects, and what they do with every one."""

from __future__ import annotations

import signal

from tests.e2e.project import Process, Project

TASKS = """
import asyncio, os, sys
from typing import Any
from jetq import Reject, task

@task
async def add(x: int, y: int) -> int:
    return x + y

@task
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times

@task
def quiet(secret: str) -> None:
    pass

@task(queue="failing", max_attempts=2, wait=0.0)
def fail(secret: str) -> int:
    raise ValueError("no good")

@task(queue="failing")
def fail_once(marker: str) -> str:
    if not os.path.exists(marker):
        raise Reject("not yet")
    return "at last"

@task(queue="slow")
async def nap(seconds: float) -> str:
    print("napping", flush=True)
    await asyncio.sleep(seconds)
    return "rested"
"""


def work_off(project: Project, *queues: str) -> str:
    """Run what is queued, and return what the worker wrote."""
    choice = [word for queue in queues for word in ("-q", queue)]
    done = project.jetq("worker", "tasks", "--burst", "--no-plugins", *choice)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def enqueue(project: Project, *words: str) -> str:
    """`jetq call --no-wait WORDS`: the job's id."""
    called = project.jetq("call", "--no-wait", *words)
    assert called.returncode == 0, called.stderr
    return called.stdout.strip()


def one_line(stderr: str) -> str:
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    return lines[0]


def stop(process: Process) -> None:
    process.signal(signal.SIGINT)
    assert process.end() == 0, "\n".join(process.output)
    assert "Traceback" not in "\n".join(process.output)

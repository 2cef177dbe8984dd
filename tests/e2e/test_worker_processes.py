"""`jetq worker` with several processes: shared work, replacements, one signal for the tree, reload."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import pytest

from tests.apps.noting import whole_lines
from tests.e2e.project import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

TASKS = """
import os, time
from jetq import task

@task
def note(n: int, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    with open("notes", "a") as notes:
        notes.write(f"{n} {os.getpid()}\\n")
"""

GROWING = """
kept, plain = [], note.fn

def grow(n: int, seconds: float = 0.0) -> None:
    kept.append(b"x" * (250 * 1024**2))
    plain(n, seconds)

note.fn = grow
"""

ENDING = """
@task(max_crashes=1)
def end(code: int) -> None:
    with open("ended", "a") as ended:
        ended.write("x")
    os._exit(code)
"""

ENQUEUE = """
import sys
from tasks import note
first, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
note.delay_many(note.bind(n, seconds) for n in range(first, first + count))
"""


@pytest.fixture
def project(tmp_path: Path, nats_url: str) -> Project:
    made = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"many-{token_hex(4)}")
    made.write("tasks.py", TASKS)
    made.write("enqueue.py", ENQUEUE)
    made.write("notes", "")
    return made


def enqueue(project: Project, count: int, *, first: int = 0, seconds: float = 0.0) -> None:
    words = [sys.executable, "enqueue.py", str(first), str(count), str(seconds)]
    subprocess.run(words, cwd=project.directory, env=project.environment, check=True, timeout=30)


def noted(project: Project) -> list[tuple[int, int]]:
    """Which job was run in which process."""
    lines = whole_lines(project.directory / "notes")
    return [(int(n), int(pid)) for n, pid in (line.split() for line in lines)]


def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def enqueue_until(project: Project, condition: Callable[[], object], *, first: int) -> int:
    """Enqueue jobs from number `first` on, for as long as it takes. Return the number of the next job."""
    for number in itertools.count(first, 40):
        if condition():
            return number
        enqueue(project, 40, first=number, seconds=0.2)
    raise AssertionError  # not reached


def test_processes_share_the_work_one_is_replaced_and_one_signal_ends_all(project: Project) -> None:
    with project.running("worker", "tasks", "--processes", "3", "-c", "4") as worker:
        # As many jobs as it takes: on a busy machine two processes may run many before the third one has started.
        so_far = enqueue_until(project, lambda: len({pid for _, pid in noted(project)}) == 3, first=0)
        killed = noted(project)[0][1]
        os.kill(killed, signal.SIGKILL)
        total = enqueue_until(project, lambda: len({pid for _, pid in noted(project)} - {killed}) == 3, first=so_far)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.output
    left = json.loads(project.jetq("queue", "ls", "--json").stdout)[0]
    done = Counter(n for n, _ in noted(project))
    assert left["running"] <= 4  # what the killed one held, until its lease lapses
    assert len(done) + left["ready"] + left["running"] == total
    assert set(done.values()) == {1}


@pytest.mark.slow
def test_processes_are_replaced_after_so_many_jobs_and_nothing_is_lost_or_doubled(project: Project) -> None:
    enqueue(project, 200)
    finished = project.jetq("worker", "tasks", "--processes", "2", "--max-jobs", "20", "--burst", timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert sorted(n for n, _ in noted(project)) == list(range(200))
    per_process = Counter(pid for _, pid in noted(project))
    assert len(per_process) >= 8
    assert max(per_process.values()) <= 22


@pytest.mark.slow
def test_a_process_that_has_grown_is_replaced_between_jobs(project: Project) -> None:
    project.write("tasks.py", TASKS + GROWING)
    enqueue(project, 4)
    finished = project.jetq("worker", "tasks", "-c", "1", "--max-memory", "250", "--burst", timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert sorted(n for n, _ in noted(project)) == [0, 1, 2, 3]
    assert len({pid for _, pid in noted(project)}) == 4
    too_little = project.jetq("worker", "tasks", "--max-memory", "5", "--burst")
    assert too_little.returncode == 2
    assert "more than --max-memory" in too_little.stderr


def test_a_changed_file_is_picked_up(project: Project) -> None:
    with project.running("worker", "tasks", "--reload") as worker:
        enqueue(project, 1)
        until(lambda: len(noted(project)) == 1)
        project.write("tasks.py", TASKS.replace("{n} {os", "{n + 1000} {os"))
        worker.wait_for("changed")
        enqueue(project, 1, first=1)
        until(lambda: len(noted(project)) == 2)
        worker.signal(signal.SIGINT)
        assert worker.end() == 0, worker.output
    assert [n for n, _ in noted(project)] == [0, 1001]


def test_code_that_cannot_be_imported_ends_it_and_is_said_once_or_per_process(project: Project) -> None:
    project.write("broken.py", "1 / 0\n")
    finished = project.jetq("worker", "broken", "--processes", "2", timeout=30)
    assert finished.returncode == 2
    assert finished.stderr.count("module 'broken' fails to import: ZeroDivisionError") in (1, 2)
    assert "starting it again" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_a_job_that_ends_its_process_with_code_2_ends_no_other(project: Project) -> None:
    project.environment["JETQ_ACK_WAIT"] = "2"  # seconds until the job that kills is looked at again
    project.write("tasks.py", TASKS + ENDING)
    project.write("send.py", "from tasks import end\nend.delay(2)\n")
    subprocess.run([sys.executable, "send.py"], cwd=project.directory, env=project.environment, check=True, timeout=30)
    with project.running("worker", "tasks", "--processes", "2", "-c", "1") as worker:
        place = worker.wait_for("exit code 2; starting it again").partition("worker process ")[2][0]
        filled = worker.wait_for(f"worker process {place} (pid ").partition("(pid ")[2].partition(")")[0]
        worker.wait_for(f"-{filled}-")  # serves
        enqueue(project, 20, seconds=0.1)
        until(lambda: len(noted(project)) == 20)
        until(lambda: json.loads(project.jetq("dlq", "list", "--json").stdout))
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.output
    assert sorted(n for n, _ in noted(project)) == list(range(20))
    assert int(filled) in {pid for _, pid in noted(project)}
    said = "\n".join(worker.output)
    assert len(re.findall(r"worker process \d \(pid \d+\) started", said)) == 3  # the neighbour only once
    assert said.count("once more gives them back at once") == 1  # by the supervisor alone
    (letter,) = json.loads(project.jetq("dlq", "list", "--json").stdout)
    assert (letter["task"], letter["reason"]) == ("tasks.end", "crashed")
    assert (project.directory / "ended").read_text() == "x"


CHATTY = """
import logging
from jetq import task

@task
async def here() -> None:
    logging.getLogger("shop").debug("details here")

@task(run_in="process")
def apart() -> None:
    logging.getLogger("shop").debug("details apart")
"""


def test_the_log_level_changes_while_a_worker_runs(project: Project) -> None:
    project.write("tasks.py", CHATTY)
    with project.running("worker", "tasks", "--log-level", "warning") as worker:
        until(lambda: project.jetq("call", "--timeout", "5", "tasks.apart").returncode == 0)
        worker.signal(signal.SIGUSR1)
        worker.wait_for("the log level is debug now, and was warning")
        worker.signal(signal.SIGUSR1)
        for name in ("here", "apart"):
            assert project.jetq("call", f"tasks.{name}").returncode == 0
            worker.wait_for(f"DEBUG   shop: details {name}")
        worker.signal(signal.SIGUSR2)
        worker.wait_for("the log level is warning again")
        for name in ("here", "apart"):
            assert project.jetq("call", f"tasks.{name}").returncode == 0
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.output
    said = "\n".join(worker.output)
    assert (said.count("details here"), said.count("details apart"), said.count("debug now")) == (1, 1, 1)


def test_the_log_level_of_all_processes_changes_also_of_one_that_starts_later(project: Project) -> None:
    with project.running("worker", "tasks", "--processes", "2") as worker:
        for _ in range(2):
            worker.wait_for("started")
        worker.signal(signal.SIGUSR1)
        lines = [worker.wait_for("the log level is debug now, and was info") for _ in range(3)]
        assert len(lines) == 3  # the supervisor's and its processes'
        enqueue(project, 1)
        until(lambda: len(noted(project)) == 1)
        os.kill(noted(project)[0][1], signal.SIGKILL)
        worker.wait_for("killed by SIGKILL")
        worker.wait_for("the log level is debug now, and was info")
        worker.signal(signal.SIGUSR2)
        for _ in range(3):
            worker.wait_for("the log level is info again")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.output

"""`jetq call`: results and tracebacks of remote jobs, and what is refused before anything is sent."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from tests.e2e.cli.commands import work_off
from tests.e2e.project import Project


def test_call_without_a_server_fails_soon(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project.environment["NATS_URL"] = f"nats://127.0.0.1:{port}"
    before = time.monotonic()
    called = project.jetq("call", "tasks.add", "2", "3")
    assert time.monotonic() - before < 5 + 20  # of which a process's start on a busy machine is some
    assert called.returncode == 3
    assert called.stderr.startswith("error: cannot connect to NATS at nats://127.0.0.1:")
    assert "\nhint: " in called.stderr
    assert "Traceback" not in called.stderr


def test_call_waits_for_the_result_also_of_a_task_that_keeps_none(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        assert project.jetq("call", "tasks.quiet", "x").stdout == "null\n"
        assert project.jetq("call", "tasks.shout", "7", "--times", "2").stdout == '"77"\n'
        assert project.jetq("call", "tasks.shout", "--json", '{"text": "a"}').stdout == '"A"\n'
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


def test_call_of_a_failing_task_shows_the_remote_traceback(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        failed = project.jetq("call", "tasks.fail", "s3cret")
        assert failed.returncode == 1
        assert 'raise ValueError("no good")' in failed.stderr
        *_, error, hint = failed.stderr.splitlines()
        assert error.startswith("error: job ")
        assert error.endswith("failed: ValueError: no good")
        assert hint.startswith("hint: jetq dlq show ")


def test_call_without_the_code_needs_names_and_still_gets_its_result(project: Project) -> None:
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("serves")
        (project.directory / "tasks.py").unlink()
        placed = project.jetq("call", "tasks.add", "2", "3")
        assert placed.returncode == 2
        assert placed.stderr.startswith("error: the code of tasks.add is not here, so its arguments need their names")
        assert project.jetq("call", "tasks.add", "--x", "2", "--y", "3").stdout == "5\n"


@pytest.mark.slow
def test_call_can_be_left_and_says_that_the_job_goes_on(project: Project) -> None:
    with project.running("call", "tasks.add", "2", "3") as call:
        call.wait_for("waiting: queue 'default' has no live worker")
        call.signal(signal.SIGINT)
        assert call.end() == 1
    assert call.output[-1].endswith(f"goes on: jetq job show {call.output[-1].split()[1]}")
    work_off(project)


def test_call_gives_up_waiting_and_the_job_goes_on(project: Project) -> None:
    called = project.jetq("call", "tasks.add", "2", "3", "--timeout", "0.2")
    assert called.returncode == 1
    assert "is still queued after 0.2 s" in called.stderr
    work_off(project)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tasks.ad", "1"], "error: module 'tasks' has no task 'tasks.ad'\nhint: did you mean tasks.add?\n"),
        (["tasks.wholly_other"], "error: module 'tasks' has no task 'tasks.wholly_other'\nhint: it has tasks.add, "),
        (["tasks.add", "1"], "error: tasks.add(x: int, y: int): missing a required argument: 'y'\n"),
        (["tasks.add", "1", "2", "3"], "error: tasks.add(x: int, y: int): takes 2 positional arguments, got 3\n"),
        (["tasks.add", "1", "--z", "3"], "error: tasks.add(x: int, y: int): got an unexpected argument 'z'\n"),
        (["tasks.add", "1", "2", "--queue", "No"], "error: queue 'No' is not allowed"),
        (["bad name", "--x", "1"], "error: task name 'bad name' is not allowed"),
        ([], "error: Missing argument 'TASK'.\nhint: jetq call --help\n"),
    ],
)
def test_call_refuses_what_cannot_work_and_sends_nothing(project: Project, words: list[str], error: str) -> None:
    called = project.jetq("call", *words)
    assert (called.returncode, called.stdout) == (2, "")
    assert called.stderr.startswith(error)
    assert project.jetq("queue", "ls").stdout.startswith("no queues yet")

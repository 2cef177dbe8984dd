"""`jetq worker`: what it says, its log, and its end by signals."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.e2e.cli.commands import enqueue, work_off
from tests.e2e.project import Project

BLOCKING = """
import time
from jetq import task

@task
async def block(seconds: float) -> None:
    print("asleep now", flush=True)
    time.sleep(seconds)
"""


def test_worker_says_what_it_serves_and_never_a_secret(project: Project) -> None:
    enqueue(project, "tasks.quiet", "s3cret")
    enqueue(project, "tasks.fail", "s3cret")
    said = work_off(project, "default", "failing")
    assert f"namespace {project.environment['JETQ_NAMESPACE']}" in said
    assert "  queue default\n    tasks.add(x: int, y: int) -> int\n" in said
    assert "  not served: slow\n" in said
    assert "s3cret" not in said


def test_worker_logs_json(project: Project) -> None:
    enqueue(project, "tasks.fail", "s3cret")
    done = project.jetq("worker", "tasks", "--burst", "--no-plugins", "-q", "failing", "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["level"] == "error" and line.get("outcome") == "dead" for line in lines)
    banner = json.loads(done.stdout)
    assert banner["queues"].keys() == {"failing"}
    assert banner["namespace"] == project.environment["JETQ_NAMESPACE"]
    assert "s3cret" not in done.stderr


def test_worker_waits_for_its_server_hides_its_password_and_can_be_stopped(project: Project) -> None:
    project.environment["NATS_URL"] = "nats://me:s3cret@127.0.0.1:1"
    with project.running("worker", "tasks", "--no-plugins") as worker:
        assert "jetq worker on nats://127.0.0.1:1, namespace" in worker.wait_for("jetq worker on")
        worker.wait_for("WARNING")
        worker.signal(signal.SIGTERM)
        assert worker.end(5) == 0, "a worker that waits for its server can be stopped"
        assert "s3cret" not in "\n".join(worker.output)


def test_first_signal_lets_jobs_end(project: Project) -> None:
    id = enqueue(project, "tasks.nap", "1.0")
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("napping")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert json.loads(project.jetq("job", "show", id, "--json").stdout)["result"] == "rested"


def test_second_signal_gives_jobs_back_at_once(project: Project) -> None:
    id = enqueue(project, "tasks.nap", "600")
    with project.running("worker", "tasks", "--no-plugins") as worker:
        worker.wait_for("napping")
        worker.signal(signal.SIGINT)
        worker.wait_for("stopping: running jobs may end")
        worker.signal(signal.SIGINT)
        assert worker.end() == 1
        assert worker.output[-1].startswith("error: the worker was killed by a second signal")
    shown = json.loads(project.jetq("job", "show", id, "--json").stdout)
    assert (shown["state"], shown["attempt"], shown["errors"]) == ("queued", 1, [])


def test_third_signal_ends_a_worker_whose_loop_a_job_blocks(project: Project) -> None:
    """Guarantee: a worker can be ended by its signals alone, whatever its jobs do."""
    project.write("blocking.py", BLOCKING)
    enqueue(project, "blocking.block", "600")
    with project.running("worker", "blocking", "--no-plugins") as worker:
        worker.wait_for("asleep now")
        deadline = time.monotonic() + 30
        while worker.popen.poll() is None and time.monotonic() < deadline:
            worker.signal(signal.SIGTERM)
            time.sleep(0.5)  # signals that come at once are one, and on a busy machine these may
        assert worker.end() == 1


def test_third_signal_ends_processes_whose_loop_a_job_blocks(project: Project) -> None:
    project.write("blocking.py", BLOCKING)
    enqueue(project, "blocking.block", "600")
    with project.running("worker", "blocking", "--no-plugins", "--processes", "2") as worker:
        worker.wait_for("asleep now")
        for said in ("stopping: running jobs may end", "stopping now", "ending at once"):
            worker.signal(signal.SIGTERM)  # the next after what this one did: two at once are one, and a fourth kills
            worker.wait_for(said)
        assert worker.end() == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["tasks:aap"], "error: module 'tasks' imported but has no 'aap'; it defines no app\nhint: "),
        (["app:aap"], "error: module 'app' imported but has no 'aap'; it defines: app\n"),
        (["taskz"], "error: there is no module 'taskz'\nhint: did you mean 'tasks'?\n"),
        ([""], "error: '' names no module\nhint: MODULE, MODULE:APP or file.py"),
        (["broken"], "error: module 'broken' fails to import: ZeroDivisionError: division by zero\n  File "),
        (["empty", "--no-plugins"], "error: there are no tasks to run\nhint: "),
        (["tasks", "-q", "No Queue"], "error: queue 'No Queue' is not allowed"),
        (["tasks", "--processes", "0"], "error: Invalid value for '--processes'"),
        (["tasks", "-c", "0"], "error: Invalid value for '-c' / '--concurrency'"),
    ],
)
def test_worker_refuses_what_cannot_work(project: Project, words: list[str], error: str) -> None:
    project.write("app.py", "from jetq import Jetq\napp = Jetq()\n")
    project.write("broken.py", "1 / 0\n")
    project.write("empty.py", "")
    done = project.jetq("worker", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr

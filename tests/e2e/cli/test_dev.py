"""`jetq dev` and `jetq server`: everything on one machine, and nothing left behind."""

from __future__ import annotations

import pytest

from jetq.server import running_at
from tests.e2e.cli.commands import TASKS, enqueue, one_line, stop
from tests.e2e.project import Project


def test_dev_serves_what_call_asks_and_leaves_nothing_behind(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("nats-server on nats://127.0.0.1:")
        dev.wait_for("tasks.add(x: int, y: int) -> int")
        assert "try: jetq call tasks.add 2 2" in dev.wait_for("try:")
        dev.wait_for("serves")

        called = fresh.jetq("call", "tasks.add", "2", "3")
        assert (called.returncode, called.stdout, called.stderr) == (0, "5\n", "")

        wrong = fresh.jetq("call", "tasks.add", "2", "three")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert one_line(wrong.stderr) == "error: tasks.add(x: int, y: int): y: expected int, got str"
        stop(dev)
    assert running_at(fresh.directory / ".jetq") is None


@pytest.mark.slow
def test_dev_reloads_changed_code_and_waits_while_it_is_broken(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("serves")
        fresh.write("tasks.py", TASKS + "\n@task\ndef mul(x: int, y: int) -> int:\n    return x * y\n")
        dev.wait_for("tasks.py changed: starting the worker anew")
        dev.wait_for("tasks.mul(x: int, y: int) -> int")
        assert fresh.jetq("call", "tasks.mul", "4", "5").stdout == "20\n"

        fresh.write("tasks.py", TASKS + "\ndef broken(:\n")
        dev.wait_for("error: module 'tasks' fails to import: SyntaxError")
        dev.wait_for("waiting for a change")

        fresh.write("tasks.py", TASKS)
        dev.wait_for("serves")
        assert fresh.jetq("call", "tasks.add", "4", "5").stdout == "9\n"
        stop(dev)


@pytest.mark.slow
def test_dev_starts_a_worker_again_that_a_job_has_killed(fresh: Project) -> None:
    fresh.write("tasks.py", TASKS + "\n@task(max_crashes=1)\ndef kill() -> None:\n    os._exit(9)\n")
    with fresh.running("dev", "tasks.py") as dev:
        dev.wait_for("serves")
        enqueue(fresh, "tasks.kill")
        dev.wait_for("the worker ended; starting it again")
        dev.wait_for("serves")
        stop(dev)


def test_dev_takes_another_port_when_4222_is_taken_and_keeps_others_out(fresh: Project) -> None:
    with fresh.running("dev", "tasks.py", "--port", "0") as dev:
        dev.wait_for("export NATS_URL=nats://127.0.0.1:")
        dev.wait_for("serves")
        fresh.environment["NATS_URL"] = "nats://127.0.0.1:1"
        second = fresh.jetq("dev", "tasks.py")
        assert second.returncode == 3
        assert second.stderr.startswith("error: the directory .jetq is in use by another nats-server\nhint: ")
        stop(dev)


def test_server_runs_alone_and_is_found_by_its_directory(fresh: Project) -> None:
    with fresh.running("server", "--port", "0") as server:
        port = int(server.wait_for("nats-server on").partition(",")[0].rpartition(":")[2])
        assert fresh.jetq("queue", "ls").stdout == "no queues yet: the first job or worker of a queue makes it\n"
        taken = fresh.jetq("server", "--dir", "elsewhere", "--port", str(port))
        assert taken.returncode == 3
        assert taken.stderr.startswith(f"error: port {port} on 127.0.0.1 is already taken")
        stop(server)

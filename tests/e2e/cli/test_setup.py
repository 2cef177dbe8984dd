"""`jetq setup`: queues are made, what differs is reported."""

from __future__ import annotations

from secrets import token_hex

from tests.e2e.cli.commands import enqueue
from tests.e2e.project import Project


def test_setup_makes_queues_and_can_be_repeated(project: Project) -> None:
    for _ in range(2):
        done = project.jetq("setup", "tasks", "--no-plugins")
        assert (done.returncode, done.stdout) == (
            0,
            "queue default: ready\nqueue failing: ready\nqueue slow: ready\nrecords: ready\nworkflows: ready\n",
        )
    assert len(project.jetq("queue", "ls").stdout.splitlines()) == 4


def test_setup_reports_what_stands_and_differs(project: Project) -> None:
    assert project.jetq("setup", "-q", "email").returncode == 0
    project.environment["JETQ_ACK_WAIT"] = "60"
    done = project.jetq("setup", "-q", "email")
    assert done.returncode == 3
    assert done.stdout.startswith("queue email: differs\n  consumer email of stream ")
    assert "ack_wait is '30 s', jetq needs '60 s'" in done.stdout
    assert done.stderr.startswith("error: what stands was left alone\nhint: ")


def test_an_apps_own_settings_are_used_when_it_is_named(project: Project) -> None:
    project.write("app.py", f"from jetq import Jetq\napp = Jetq(namespace='own-{token_hex(4)}')\n")
    enqueue(project, "tasks.add", "1", "2", "--app", "app")
    assert len(project.jetq("queue", "ls", "-A", "app:app").stdout.splitlines()) == 2
    assert project.jetq("queue", "ls").stdout.startswith("no queues yet")
    project.environment["JETQ_APP"] = "app"
    assert len(project.jetq("queue", "ls").stdout.splitlines()) == 2

"""`jetq queue` and `jetq job`: looking at what is stored, moving it and cancelling it."""

from __future__ import annotations

import json

import pytest

from jetq import Jetq
from tests.e2e.cli.commands import enqueue, work_off
from tests.e2e.project import Project


def test_queues_and_jobs_in_numbers(project: Project) -> None:
    id = enqueue(project, "tasks.quiet", "hello")
    enqueue(project, "tasks.fail", "x")
    header, default, failing = project.jetq("queue", "ls").stdout.splitlines()
    assert header.split() == ["QUEUE", "READY", "RUNNING", "SCHEDULED", "DEAD", "IDLE"]
    assert default.split(maxsplit=6) == ["default", "1", "0", "0", "0", "0", "no live worker"]
    assert failing.split(maxsplit=6) == ["failing", "1", "0", "0", "0", "0", "no live worker"]
    first = json.loads(project.jetq("queue", "ls", "--json").stdout)[0]
    assert first == {
        "name": "default", "ready": 1, "running": 0, "scheduled": 0, "dead": 0, "waiting": 0,
        "paused": False, "paused_until": None, "served": False,
    }  # fmt: skip

    shown = project.jetq("job", "show", id).stdout
    assert 'arguments  {"secret":"***"}' in shown
    assert "state      queued" in shown
    missing = project.jetq("job", "show", "nope")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: job nope is not in any queue")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_job_as_large_as_allowed_is_shown_explained_moved_and_cancelled_and_its_letter_goes_out_and_in(
    project: Project, nats_url: str
) -> None:
    app = Jetq(nats_url, namespace=project.environment["JETQ_NAMESPACE"])
    most = 1024 * 1024 - 32 * 1024 - len('{"text":"","times":"no"}')
    queued = app.send("tasks.shout", {"text": "x" * most}, delay=3600)
    dies = app.send("tasks.shout", {"text": "x" * most, "times": "no"}, queue="failing")
    app.session.close()

    def works(*words: str) -> str:
        done = project.jetq(*words, timeout=60.0)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "state      scheduled" in works("job", "show", queued.id)
    works("job", "why", queued.id)
    works("job", "reschedule", queued.id, "--delay", "2h")
    works("job", "cancel", queued.id)
    work_off(project, "failing")
    works("dlq", "show", dies.id)
    works("dlq", "export", dies.id, "-o", "letters")
    works("dlq", "purge", dies.id, "--yes")
    works("dlq", "import", "letters")
    works("dlq", "replay", dies.id)
    assert "state      queued" in works("job", "show", dies.id)

"""`jetq queue` and `jetq job`: looking at what is stored, moving it and cancelling it."""

from __future__ import annotations

import asyncio
import json

import pytest

from jetq import Jetq
from jetq.encoding.headers import job_headers
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import JobRecord, Meta, Place
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


def test_a_job_of_a_workflow_is_shown_with_its_place(project: Project, nats_url: str) -> None:
    app = Jetq(nats_url, namespace=project.environment["JETQ_NAMESPACE"])
    place = Place("weekly-48", "failing", "0192abcdef", "fetch", 7, 1000, 3, 4e9, 12, 1.7e9)
    job = JobRecord(place.job_id, "tasks.fail", "failing", b'{"secret":"x"}', meta=Meta(flow=place))
    letter = DeadLetter(
        "dead", "tasks.fail", "failing", "-", "failed", Failure("builtins.ValueError", "no"), 1, 1.7e9, 1.7e9,
        "jetq.failing.run.tasks:fail.-.dead", 2, headers=job_headers(job),
    )  # fmt: skip

    async def store() -> None:
        broker = await app.session.broker()
        await broker.setup("failing")
        await broker.enqueue(job)
        await broker.import_dead(DeadEntry(letter, job.body, 0))
        await app.session.aclose()

    asyncio.run(store())
    for id, state in ((job.id, "queued"), (letter.id, "dead")):
        text = project.jetq("job", "show", id).stdout
        assert "\nworkflow   weekly-48, step fetch, member 7\n" in text
        assert f"\nstate      {state}\n" in text
    shown = json.loads(project.jetq("job", "show", job.id, "--json").stdout)
    assert "place" not in shown and "flow" not in shown


def test_a_job_of_no_workflow_has_no_line_about_one(project: Project) -> None:
    assert "workflow" not in project.jetq("job", "show", enqueue(project, "tasks.quiet", "hello")).stdout


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

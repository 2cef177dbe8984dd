"""Dead letters found, brought back with their history, and dropped; a job seen in each of its states."""

from __future__ import annotations

import pytest
from msgspec import Raw
from msgspec.structs import replace

from jetq.dead_letters import count_dead, find_dead, list_dead, purge_dead, revived
from jetq.dead_letters import replay as replay_dead
from jetq.errors import DefinitionError, JobNotFound
from jetq.inspect import view_job
from jetq.memory import MemoryBroker
from jetq.model import AttemptError, DeadEntry, DeadLetter, Delivery, Failure, JobRecord, Meta, ResultRecord
from jetq.wire import job_headers

pytestmark = pytest.mark.anyio

FAILURE = Failure(type="builtins.ValueError", message="no good", traceback="Traceback ...")
ERRORS = (
    AttemptError(attempt=1, type="builtins.ValueError", message="first", at=1.0),
    AttemptError(attempt=2, type="builtins.ValueError", message="no good", at=2.0),
)


def letter(id: str, *, queue: str = "email", task: str = "tasks.f", meta: Meta | None = None) -> DeadLetter:
    job = JobRecord(id=id, task=task, queue=queue, body=b"{}", meta=meta or Meta())
    return DeadLetter(
        id=id,
        task=task,
        queue=queue,
        key="-",
        reason="failed",
        failure=FAILURE,
        attempt=2,
        at=10.0,
        enqueued=5.0,
        address=f"jetq.{queue}.run.{task}.-.{id}",
        sequence=1,
        errors=ERRORS,
        errors_dropped=4,
        snoozes=2,
        replays=1,
        headers=job_headers(job),
    )


async def deliver(broker: MemoryBroker, job: JobRecord) -> Delivery:
    got: list[Delivery] = []
    await broker.enqueue(job)
    feed = await broker.feed(job.queue, got.append)
    feed.ask(1)
    await feed.stop()
    assert len(got) == 1
    return got[0]


async def bury(broker: MemoryBroker, dead: DeadLetter, body: bytes = b'{"x": 1}') -> None:
    delivery = await deliver(broker, JobRecord(id=dead.id, task=dead.task, queue=dead.queue, body=body))
    await broker.bury(delivery, dead)
    broker.finish(delivery)


def test_a_revived_job_keeps_id_bytes_overrides_and_history_and_starts_anew() -> None:
    meta = Meta(attempt=2, max_attempts=7, timeout=None, result_ttl=60.0, unknown_since=3.0)
    job = revived(DeadEntry(letter("a1", meta=meta), b'{"x": 1}', sequence=9))
    assert (job.id, job.task, job.queue, job.body) == ("a1", "tasks.f", "email", b'{"x": 1}')
    assert job.meta == Meta(
        attempt=1,
        enqueued=5.0,
        max_attempts=7,
        timeout=None,
        result_ttl=60.0,
        errors=ERRORS,
        errors_dropped=4,
        snoozes=2,
        replays=2,
    )


def test_a_job_that_died_of_an_unreadable_header_is_revived_without_it() -> None:
    unreadable = replace(letter("a1"), headers={"Jetq": "{"})
    dead = DeadEntry(unreadable, b"{}", sequence=9)
    assert revived(dead).meta.attempt == 1
    assert revived(dead).meta.replays == 2


async def test_found_over_all_queues_listed_counted_and_dropped() -> None:
    broker = MemoryBroker()
    await bury(broker, letter("a1"))
    await bury(broker, letter("a2", task="tasks.g"))
    await bury(broker, letter("b1", queue="reports"))

    assert [e.letter.id for e in await list_dead(broker)] == ["a1", "a2", "b1"]
    assert [e.letter.id for e in await list_dead(broker, task="tasks.g")] == ["a2"]
    assert [e.letter.id for e in await list_dead(broker, queue="reports")] == ["b1"]
    assert [e.letter.id for e in await list_dead(broker, limit=2)] == ["a1", "a2"]
    assert await count_dead(broker) == 3
    assert await count_dead(broker, queue="email") == 2
    assert (await find_dead(broker, "b1")).letter.queue == "reports"
    with pytest.raises(JobNotFound, match="no dead letter of job nope in any queue"):
        await find_dead(broker, "nope")

    assert await purge_dead(broker, ids=["a1", "nope"]) == 1
    assert await purge_dead(broker, task="tasks.g", queue="email") == 1
    assert await purge_dead(broker) == 1
    assert await count_dead(broker) == 0


async def test_replay_puts_jobs_back_and_names_those_that_stand_already() -> None:
    broker = MemoryBroker()
    await bury(broker, letter("a1"))
    await bury(broker, letter("a2"))
    entries = await list_dead(broker)
    assert await replay_dead(broker, entries[:1]) == (1, [])
    assert await replay_dead(broker, entries) == (1, ["a1"])
    assert await list_dead(broker) == []
    found = await broker.find("email", "a1")
    assert found is not None
    assert found.delivery.body == b'{"x": 1}'


async def test_an_illegal_queue_name_reaches_no_broker() -> None:
    with pytest.raises(DefinitionError):
        await list_dead(MemoryBroker(), queue="not a queue")
    with pytest.raises(DefinitionError):
        await view_job(MemoryBroker(), "a1", queue="not.a.queue")


async def test_a_job_is_seen_in_every_state() -> None:
    broker = MemoryBroker()
    job = JobRecord(id="a1", task="tasks.f", queue="email", body=b'{"x": 1}')
    await broker.enqueue(JobRecord(id="l1", task="tasks.f", queue="email", body=b"{}"), due=4e9)
    later = await view_job(broker, "l1")
    assert (later.state, later.due) == ("scheduled", 4e9)

    await broker.enqueue(job)
    waiting = await view_job(broker, "a1", queue="email")
    assert (waiting.state, waiting.attempt, waiting.body) == ("queued", 1, b'{"x": 1}')

    delivery = await deliver(broker, job)
    assert (await view_job(broker, "a1")).state == "running"

    result = ResultRecord(
        id="a1", state="succeeded", task="tasks.f", queue="email", attempt=1, sequence=2, at=9.0, value=Raw(b"5")
    )
    await broker.put_result(result, 60.0)
    broker.finish(delivery)
    done = await view_job(broker, "a1")
    assert (done.state, done.ended, done.result) == ("succeeded", 9.0, result)

    with pytest.raises(JobNotFound, match="job nope is not in any queue"):
        await view_job(broker, "nope")


async def test_a_dead_job_is_seen_with_its_letter() -> None:
    broker = MemoryBroker()
    await bury(broker, letter("a1"))
    view = await view_job(broker, "a1")
    assert (view.state, view.attempt, view.errors, view.errors_dropped) == ("dead", 2, ERRORS, 4)
    assert view.dead is not None
    assert view.dead.body == b'{"x": 1}'


async def test_a_success_after_a_replay_that_was_cut_short_is_what_counts() -> None:
    broker = MemoryBroker()
    await bury(broker, letter("a1"))
    succeeded = ResultRecord(id="a1", state="succeeded", task="tasks.f", queue="email", attempt=1, sequence=7, at=99.0)
    await broker.put_result(succeeded, 60.0)
    assert (await view_job(broker, "a1")).state == "succeeded"

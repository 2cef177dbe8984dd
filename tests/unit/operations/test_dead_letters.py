"""Dead letters found, brought back with their history, and dropped; a job seen in each of its states."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.encoding.headers import job_headers, read_meta
from jetq.errors import DefinitionError, JobNotFound, PayloadTooLarge
from jetq.memory import MemoryBroker
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import AttemptError, Failure
from jetq.model.job import Delivery, JobRecord, Meta
from jetq.model.result import ResultRecord
from jetq.operations import dead_letters
from jetq.operations.dead_letters import (
    EVERY,
    DeadFilter,
    Replay,
    count_dead,
    each_dead,
    edited,
    find_dead,
    purge_dead,
    refs_of,
    replay_edited,
    revived,
)
from jetq.operations.dead_letters import replay as replay_dead
from jetq.operations.job_view import view_job

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


async def store_dead(broker: MemoryBroker, dead: DeadLetter, body: bytes = b'{"x": 1}') -> None:
    delivery = await deliver(broker, JobRecord(id=dead.id, task=dead.task, queue=dead.queue, body=body))
    await broker.store_dead(delivery, dead)
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


async def ids(broker: Broker, which: DeadFilter = EVERY) -> list[str]:
    return [entry.letter.id async for entry in each_dead(broker, which)]


async def test_found_over_all_queues_listed_counted_and_dropped() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    await store_dead(broker, letter("a2", task="tasks.g"))
    await store_dead(broker, letter("b1", queue="reports"))

    assert await ids(broker) == ["a1", "a2", "b1"]
    assert await ids(broker, DeadFilter(task="tasks.g")) == ["a2"]
    assert await ids(broker, DeadFilter(queue="reports")) == ["b1"]
    assert await ids(broker, DeadFilter(limit=2)) == ["a1", "a2"]
    assert await ids(broker, DeadFilter(limit=0)) == []
    assert await ids(broker, DeadFilter(ids=("b1", "a1", "b1"))) == ["b1", "a1"]
    assert await count_dead(broker) == 3
    assert await count_dead(broker, queue="email") == 2
    assert (await find_dead(broker, "b1")).letter.queue == "reports"
    with pytest.raises(JobNotFound, match="no dead letter of job nope in any queue"):
        await find_dead(broker, "nope")
    with pytest.raises(JobNotFound):
        await ids(broker, DeadFilter(ids=("a1", "nope")))

    assert await purge_dead(broker, DeadFilter(ids=("a1", "nope"))) == 1
    assert await purge_dead(broker, DeadFilter(task="tasks.g", queue="email")) == 1
    assert await purge_dead(broker) == 1
    assert await count_dead(broker) == 0


OLD, NEW = letter("old"), replace(letter("new"), at=20.0)
CRASHED = replace(letter("crashed", task="tasks.g"), reason="crashed", failure=Failure("jetq.ProcessDied", ""))


@pytest.mark.parametrize(
    ("which", "meant"),
    [
        (EVERY, ["old", "new", "crashed"]),
        (DeadFilter(reason="crashed"), ["crashed"]),
        (DeadFilter(reason="failed", limit=1), ["old"]),
        (DeadFilter(error="ValueError"), ["old", "new"]),
        (DeadFilter(error="builtins.ValueError"), ["old", "new"]),
        (DeadFilter(error="Error"), []),
        (DeadFilter(error="s.ValueError"), []),
        (DeadFilter(since=20.0), ["new"]),
        (DeadFilter(until=20.0), ["old", "crashed"]),
        (DeadFilter(since=5.0, until=15.0, task="tasks.f"), ["old"]),
    ],
)
async def test_a_filter_means_what_everything_in_it_fits_and_purges_just_that(
    which: DeadFilter, meant: list[str]
) -> None:
    broker = MemoryBroker()
    for each in (OLD, NEW, CRASHED):
        await store_dead(broker, each)

    assert await ids(broker, which) == meant
    assert [place.id for place in await refs_of(broker, which)] == meant
    assert await purge_dead(broker, which) == len(meant)
    assert await ids(broker) == [id for id in ("old", "new", "crashed") if id not in meant]


async def test_a_few_of_many_letters_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_PAGE", 3)
    broker = MemoryBroker()
    for number in range(10):
        await store_dead(broker, replace(letter(f"j{number}"), at=float(number)))
    asked: list[int] = []
    read = broker.dead

    async def counted(*args: Any, **keywords: Any) -> Any:
        page = await read(*args, **keywords)
        asked.append(len(page))
        return page

    monkeypatch.setattr(broker, "dead", counted)
    assert await ids(broker, DeadFilter(since=4.0, limit=2)) == ["j4", "j5"]
    assert asked == [3, 3]  # and no further
    assert await ids(broker) == [f"j{number}" for number in range(10)]
    assert max(asked) == 3


async def test_purging_a_task_that_has_no_legal_name_spares_other_strays() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    assert not DeadFilter(task="no name").by_name
    assert await purge_dead(broker, DeadFilter(task="no name")) == 0
    assert await ids(broker) == ["a1"]


async def test_replay_puts_jobs_back_and_names_those_that_stand_already() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    await store_dead(broker, letter("a2"))
    entries = [entry async for entry in each_dead(broker)]
    assert await replay_dead(broker, entries[:1]) == (1, [])
    assert await replay_dead(broker, entries) == (1, ["a1"])
    assert await ids(broker) == []
    found = await broker.find("email", "a1")
    assert found is not None
    assert found.delivery.body == b'{"x": 1}'


# --- a replay of many


async def test_a_replay_of_many_tells_what_became_of_each() -> None:
    broker = MemoryBroker()
    for each in (*map(letter, ("back", "stands", "purged", "again")), letter("stray", task="")):
        await broker.import_dead(DeadEntry(each, b"{}", 0))
    work = Replay(broker, await refs_of(broker))
    assert work.left == 5
    await broker.enqueue(JobRecord(id="stands", task="tasks.f", queue="email", body=b"{}"))
    await broker.purge_dead("email", id="purged")
    await broker.import_dead(DeadEntry(replace(letter("again"), at=99.0), b"{}", 0))

    seen: list[int] = []
    await work.run(lambda work: seen.append(work.left))

    assert seen == [4, 3, 2, 1, 0]
    assert (work.replayed, work.passed, work.existing, work.strays) == (1, 2, ["stands"], ["stray"])
    assert await ids(broker) == ["stands", "again", "stray", "again"]


async def test_jobs_that_die_again_at_once_are_replayed_once() -> None:
    """Guarantee: a replay ends, also of jobs that fail at once."""
    broker = MemoryBroker()
    for number in range(5):
        await store_dead(broker, letter(f"j{number}"))
    feed_got: list[Delivery] = []
    feed = await broker.feed("email", feed_got.append)
    deaths = 0
    work = Replay(broker, await refs_of(broker))

    feed.ask(100)

    def die_again(work: Replay) -> None:
        nonlocal deaths
        for delivery in feed_got:
            deaths += 1
            broker.store.queue("email").dead.store_dead(
                delivery, replace(letter(delivery.id), sequence=delivery.sequence)
            )
            broker.finish(delivery)
        feed_got.clear()

    async with asyncio.timeout(10):
        while work.left or feed_got:
            await work.run(die_again)
            await asyncio.sleep(0)
            die_again(work)
    assert (work.replayed, deaths) == (5, 5)
    assert len(await ids(broker)) == 5
    await feed.stop()


async def test_a_paced_replay_keeps_its_pace_and_can_be_stopped() -> None:
    broker = MemoryBroker()
    for number in range(9):
        await store_dead(broker, letter(f"j{number}"))
    work = Replay(broker, await refs_of(broker), every=0.05)
    loop = asyncio.get_running_loop()
    at: list[float] = []

    def step(work: Replay) -> None:
        at.append(loop.time())
        if len(at) == 4:
            work.stop()

    await work.run(step)

    assert (work.replayed, work.left) == (4, 5)
    assert at[3] - at[0] >= 3 * 0.05 - 0.01  # never faster
    assert len(await ids(broker)) == 5


async def test_a_stop_ends_the_wait_for_the_next_one() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    await store_dead(broker, letter("a2"))
    work = Replay(broker, await refs_of(broker), every=3600.0)

    def stop_soon(work: Replay) -> None:
        asyncio.get_running_loop().call_soon(work.stop)

    async with asyncio.timeout(5):
        await work.run(stop_soon)
    assert (work.replayed, work.left) == (1, 1)


# --- edits


async def test_an_edited_job_has_the_new_arguments_and_everything_else_and_its_letter_goes() -> None:
    broker = MemoryBroker()
    await store_dead(broker, replace(letter("a1"), edits=2))
    entry = await find_dead(broker, "a1")

    assert await replay_edited(broker, entry, b'{"x": 2}')

    before, after = revived(entry), edited(entry, b'{"x": 2}')
    assert after == replace(before, body=b'{"x": 2}', meta=replace(before.meta, edits=3))
    assert (after.meta.replays, after.meta.errors) == (2, ERRORS)
    found = await broker.find("email", "a1")
    assert found is not None
    assert (found.delivery.body, read_meta(found.delivery.headers)) == (b'{"x": 2}', after.meta)
    assert await ids(broker) == []
    view = await view_job(broker, "a1")
    assert (view.replays, view.edits) == (2, 3)


async def test_a_letter_that_is_gone_or_too_large_is_not_edited() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    entry = await find_dead(broker, "a1")
    with pytest.raises(PayloadTooLarge):  # its next dead letter would not fit
        await replay_edited(broker, entry, bytes(1024 * 1024 - 20_000))
    assert await ids(broker) == ["a1"]
    assert await broker.find("email", "a1") is None
    await purge_dead(broker)
    with pytest.raises(JobNotFound, match="not there any more"):
        await replay_edited(broker, entry, b"{}")
    assert await broker.find("email", "a1") is None


async def test_an_illegal_queue_name_reaches_no_broker() -> None:
    with pytest.raises(DefinitionError):
        await ids(MemoryBroker(), DeadFilter(queue="not a queue"))
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
    await store_dead(broker, letter("a1"))
    view = await view_job(broker, "a1")
    assert (view.state, view.attempt, view.errors, view.errors_dropped) == ("dead", 2, ERRORS, 4)
    assert view.dead is not None
    assert view.dead.body == b'{"x": 1}'


async def test_a_success_after_a_replay_that_was_cut_short_is_what_counts() -> None:
    broker = MemoryBroker()
    await store_dead(broker, letter("a1"))
    succeeded = ResultRecord(id="a1", state="succeeded", task="tasks.f", queue="email", attempt=1, sequence=7, at=99.0)
    await broker.put_result(succeeded, 60.0)
    assert (await view_job(broker, "a1")).state == "succeeded"

"""The contract of a broker: unique keys, debounce, throttle, and other due times for what is scheduled."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.encoding.headers import read_meta
from jetq.errors import PayloadTooLarge
from jetq.model.job import Debounce, EnqueueReceipt, JobRecord, Meta, StoredJob
from jetq.model.names import key_token, keyed_id
from jetq.operations.dead_letters import revived
from tests.integration.contract.world import QUEUE, World, job, letter, retry_of

pytestmark = pytest.mark.anyio


def keyed(id: str, key: str = "k", *, task: str = "tests.mail", body: bytes | None = None) -> JobRecord:
    """A job with a unique key."""
    token = key_token(key)
    return replace(job(keyed_id(id, token), task=task, body=body), key=token)


async def standing_one(broker: Broker) -> StoredJob:
    (found,) = await broker.stored_jobs(QUEUE)
    return found


# --- unique keys


async def test_of_many_jobs_of_one_key_one_is_stored_and_the_others_hear_its_id(world: World) -> None:
    brokers = [await world.broker() for _ in range(3)]
    jobs = [keyed(f"j{n}") for n in range(30)]

    stored = await asyncio.gather(*(brokers[n % 3].enqueue(each) for n, each in enumerate(jobs)))

    (new,) = [answer for answer in stored if answer.disposition == "new"]
    assert {answer.disposition for answer in stored if answer is not new} == {"existing"}
    assert {(answer.id, answer.sequence) for answer in stored} == {(new.id, new.sequence)}
    assert (await world.info(brokers[0])).ready == 1


async def test_duplicates_inside_a_batch_are_answered_in_order(world: World) -> None:
    broker = await world.broker()
    batch = [keyed("a", "one"), keyed("b", "two"), keyed("c", "one"), job("free"), keyed("d", "two")]

    stored = await broker.enqueue_many(batch)

    answers = [(each.id, each.disposition) for each in stored if isinstance(each, EnqueueReceipt)]
    assert answers == [
        ("a~one", "new"),
        ("b~two", "new"),
        ("a~one", "existing"),
        ("free", "new"),
        ("b~two", "existing"),
    ]


async def test_the_same_id_of_a_key_again_is_existing_and_stored_once(world: World) -> None:
    broker = await world.broker()
    given = keyed("same")

    first, again = await broker.enqueue(given), await broker.enqueue(given)

    assert (first.id, first.disposition) == (given.id, "new")
    assert (again.id, again.sequence, again.disposition) == (given.id, first.sequence, "existing")
    assert (await world.info(broker)).ready == 1


@pytest.mark.parametrize("due", [None, 60.0])
async def test_one_key_of_two_tasks_and_of_two_queues_are_two(world: World, due: float | None) -> None:
    broker = await world.broker()
    at = None if due is None else world.now() + due
    jobs = [keyed("a"), keyed("b", task="tests.post"), replace(keyed("c"), queue="other"), keyed("d", "kk")]

    stored = [await broker.enqueue(each, due=at) for each in jobs]

    assert [(each.id, each.disposition) for each in stored] == [(each.id, "new") for each in jobs]


async def test_a_key_is_taken_until_its_job_is_finished_over_every_stage(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    first = keyed("first")

    async def taken() -> bool:
        answer = await other.enqueue(keyed(f"try{world.now()}"))
        return (answer.id, answer.disposition) == (first.id, "existing")

    await broker.enqueue(first, due=world.now() + 0.3)
    assert await taken()  # scheduled
    await world.sleep(0.8)
    assert await taken()  # queued
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    assert await taken()  # running
    assert await broker.reschedule(delivery, retry_of(delivery), world.now() + 60)
    assert await taken()  # its retry and what that succeeds
    broker.finish(delivery)
    await broker.confirm()
    assert await taken()  # its retry alone
    assert await broker.remove(QUEUE, (await standing_one(broker)).delivery.sequence)
    assert not await taken()


async def test_a_key_is_free_after_finish_and_its_next_job_is_not_taken_for_a_retry(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker)
    for n in range(3):
        given = keyed(f"j{n}")
        assert (await broker.enqueue(given)).disposition == "new"
        delivery = await inbox.next()
        assert (delivery.id, delivery.key, delivery.body) == (given.id, "k", given.body)
        assert not await broker.is_superseded(delivery)
        broker.finish(delivery)
        await broker.confirm()
    assert not await broker.stored_jobs(QUEUE)


async def test_a_dead_job_is_not_replayed_while_another_of_its_key_stands(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(keyed("dead"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    await broker.store_dead(delivery, letter(delivery))
    broker.finish(delivery)
    await broker.confirm()
    await broker.enqueue(keyed("living"), due=world.now() + 60)
    (entry,) = await broker.dead(QUEUE)

    assert await broker.replay(entry, revived(entry)) is False
    assert await broker.dead(QUEUE) == [entry]
    assert (await standing_one(broker)).delivery.id == "living~k"

    await broker.purge(QUEUE)
    assert await broker.replay(entry, revived(entry)) is True
    assert (await standing_one(broker)).delivery.id == "dead~k"
    assert await broker.dead(QUEUE) == []


# --- debounce


@pytest.mark.slow
async def test_a_debounced_job_takes_arguments_and_due_time_and_keeps_id_and_age(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    first = replace(keyed("first", body=b'{"n":1}'), meta=Meta(enqueued=world.now()))
    await broker.enqueue(first, due=world.now() + 60)
    due = world.now() + 2.3
    second = replace(keyed("second", body=b'{"n":2}'), meta=Meta(enqueued=world.now() + 1, max_attempts=7))

    answer = await other.enqueue(second, due=due, debounce=Debounce())

    assert (answer.id, answer.disposition) == (first.id, "replaced")
    found = await broker.find(QUEUE, first.id)
    assert found is not None and found.due == pytest.approx(due, abs=0.001)
    assert (found.delivery.sequence, found.delivery.body) == (answer.sequence, b'{"n":2}')
    meta = read_meta(found.delivery.headers)
    assert (meta.enqueued, meta.max_attempts) == (first.meta.enqueued, 7)
    inbox = await world.feed(broker, 5)
    (delivery,) = await inbox.collect(1)
    assert (delivery.id, delivery.body) == (first.id, b'{"n":2}')
    assert inbox.arrived_at[0] >= due
    broker.finish(delivery)
    await inbox.quiet(0.5)
    assert not await broker.stored_jobs(QUEUE)


async def test_a_debounced_job_without_a_due_time_makes_the_scheduled_one_ready(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(keyed("first", body=b'{"n":1}'), due=world.now() + 3600)

    answer = await broker.enqueue(keyed("second", body=b'{"n":2}'), debounce=Debounce())

    assert (answer.id, answer.disposition) == ("first~k", "replaced")
    inbox = await world.feed(broker, 5)
    (delivery,) = await inbox.collect(1)
    assert (delivery.id, delivery.body) == ("first~k", b'{"n":2}')
    await inbox.quiet()


@pytest.mark.slow
async def test_max_wait_bounds_how_long_a_job_is_put_off(world: World) -> None:
    broker = await world.broker()
    start = world.now()
    bound = Debounce(max_wait=100)

    for n in range(4):
        given = replace(keyed(f"j{n}"), meta=Meta(enqueued=start + 30 * n))
        await broker.enqueue(given, due=start + 30 * n + 40, debounce=bound)
        due = (await standing_one(broker)).due
        assert due == pytest.approx(start + min(100, 30 * n + 40), abs=0.1)
    # One that is older than its bound is due now, not in the past.
    await broker.enqueue(keyed("last"), due=start + 500, debounce=Debounce(max_wait=1))
    await world.sleep(2.0)
    assert (await standing_one(broker)).state == "queued"


async def test_what_runs_is_queued_or_is_due_in_a_moment_is_not_replaced(world: World) -> None:
    broker = await world.broker()
    first = keyed("first", body=b'{"n":1}')
    last = keyed("last", body=b'{"n":2}')

    async def refused() -> bool:
        answer = await broker.enqueue(last, due=world.now() + 60, debounce=Debounce())
        return (answer.id, answer.disposition) == (first.id, "existing")

    await broker.enqueue(first, due=world.now() + 1.0)
    assert await refused()
    await world.sleep(1.5)
    assert await refused()
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    assert delivery.body == b'{"n":1}'
    assert await refused()
    broker.finish(delivery)
    await broker.confirm()
    answer = await broker.enqueue(last, due=world.now() + 60, debounce=Debounce())
    assert (answer.id, answer.disposition) == (last.id, "new")


async def test_of_debounced_jobs_at_once_one_is_new_and_one_stands(world: World) -> None:
    brokers = [await world.broker() for _ in range(3)]
    due = world.now() + 60

    stored = await asyncio.gather(
        *(brokers[n % 3].enqueue(keyed(f"j{n}"), due=due, debounce=Debounce()) for n in range(12))
    )

    (new,) = [answer for answer in stored if answer.disposition == "new"]
    assert [answer.disposition for answer in stored].count("replaced") == 11
    assert {answer.id for answer in stored} == {new.id}
    assert (await standing_one(brokers[0])).delivery.sequence == max(answer.sequence for answer in stored)


# --- throttle


async def test_a_period_belongs_to_one_job_of_a_key(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    first, second = keyed("first"), keyed("second")

    assert await broker.throttle(first, 1) is None
    assert await other.throttle(second, 1) == first.id
    assert await other.throttle(first, 1) is None  # its own, asked for again
    assert await other.throttle(keyed("x", "another"), 2) is None
    assert await other.throttle(keyed("x", task="tests.post"), 2) is None
    assert await other.throttle(replace(keyed("x"), queue="other"), 2) is None

    async with asyncio.timeout(10):
        while (holder := await other.throttle(second, 60)) is not None:
            assert holder == first.id
            await world.sleep(0.2)
    assert await broker.throttle(first, 60) == second.id


async def test_a_claim_is_given_back_by_its_holder_alone(world: World) -> None:
    broker = await world.broker()
    first, second = keyed("first"), keyed("second")
    assert await broker.throttle(first, 60) is None

    await broker.unthrottle(second)
    assert await broker.throttle(second, 60) == first.id

    await broker.unthrottle(first)
    assert await broker.throttle(second, 60) is None


async def test_of_claims_at_once_one_is_granted(world: World) -> None:
    brokers = [await world.broker() for _ in range(3)]
    jobs = [keyed(f"j{n}") for n in range(30)]

    holders = await asyncio.gather(*(brokers[n % 3].throttle(each, 60) for n, each in enumerate(jobs)))

    (place,) = [n for n, holder in enumerate(holders) if holder is None]
    assert {holder for holder in holders if holder is not None} == {jobs[place].id}


async def test_a_keyed_job_that_is_too_large_is_rejected(world: World) -> None:
    broker = await world.broker()
    with pytest.raises(PayloadTooLarge):
        await broker.enqueue(keyed("big", body=b"x" * 1024 * 1024))
    assert (await broker.enqueue(keyed("small"))).disposition == "new"


# --- move and release


def jobs_with_and_without_key(meta: Meta) -> list[JobRecord]:
    return [replace(job("plain"), meta=meta), replace(keyed("keyed"), meta=meta)]


@pytest.mark.slow
async def test_moved_jobs_are_delivered_once_at_their_new_time_as_they_were(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    meta = Meta(attempt=2, enqueued=5.0, snoozes=1)
    given = jobs_with_and_without_key(meta)
    await broker.enqueue_many(given, due=world.now() + 3600)
    await broker.enqueue(job("put-off"), due=world.now() + 2.5)
    due = world.now() + 2.5

    sooner = await other.stored_jobs(QUEUE, task="tests.mail", limit=2)
    assert [await other.move(found, due) for found in sooner] == [True, True]
    (later,) = [found for found in await other.stored_jobs(QUEUE) if found.delivery.id == "put-off"]
    assert await other.move(later, world.now() + 3600)
    for each in given:
        found = await broker.find(QUEUE, each.id)
        assert found is not None and found.due == pytest.approx(due, abs=0.001)
        assert (found.delivery.id, found.delivery.key, found.delivery.body) == (each.id, each.key, each.body)

    inbox = await world.feed(broker, 5)
    deliveries = await inbox.collect(2)
    assert min(inbox.arrived_at) >= due
    assert sorted(inbox.ids) == ["keyed~k", "plain"]
    for delivery in deliveries:
        assert read_meta(delivery.headers) == meta
        broker.finish(delivery)
    await inbox.quiet(0.7)
    assert [(found.delivery.id, found.state) for found in await broker.stored_jobs(QUEUE)] == [("put-off", "scheduled")]


@pytest.mark.slow
async def test_released_jobs_are_ready_at_once_and_delivered_once(world: World) -> None:
    broker = await world.broker()
    meta = Meta(attempt=3, enqueued=5.0)
    given = jobs_with_and_without_key(meta)
    due = world.now() + 2.7
    await broker.enqueue_many(given, due=due)

    for found in await broker.stored_jobs(QUEUE):
        assert await broker.release(found)
    assert [found.state for found in await broker.stored_jobs(QUEUE)] == ["queued", "queued"]
    inbox = await world.feed(broker, 5)
    for delivery, each in zip(await inbox.collect(2), given, strict=True):
        assert (delivery.id, delivery.body, read_meta(delivery.headers)) == (each.id, each.body, meta)
        broker.finish(delivery)
    await inbox.quiet(due + 0.8 - world.now())  # also not at their first due time
    assert not await broker.stored_jobs(QUEUE)


async def test_a_moved_job_expires_as_long_after_its_due_time_as_before_and_stands_in_no_line(world: World) -> None:
    broker = await world.broker()
    now = world.now()
    await broker.enqueue(replace(job("job"), meta=Meta(expires=now + 660)), due=now + 600)
    await broker.enqueue(replace(job("held"), meta=Meta(expires=now + 60, in_line=now)), due=now + 600)
    for found in await broker.stored_jobs(QUEUE):
        assert await broker.move(found, now + 7200)
    for found in await broker.stored_jobs(QUEUE):
        meta = read_meta(found.delivery.headers)
        assert meta.in_line is None
        assert meta.expires == pytest.approx(now + 7260, abs=0.01)


async def test_a_released_retry_removes_what_it_succeeds(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    assert await broker.reschedule(delivery, retry_of(delivery), world.now() + 3600)
    broker.finish(delivery)
    await broker.confirm()

    assert await broker.release(await standing_one(broker))
    again = await inbox.next()
    assert (again.id, read_meta(again.headers).attempt) == ("job", 2)
    assert not await broker.is_superseded(again)
    assert await broker.reschedule(again, retry_of(again, 3), world.now() + 3600)
    broker.finish(again)
    await broker.confirm()
    assert await broker.move(await standing_one(broker), world.now() + 1800)
    assert (await world.info(broker)).scheduled == 1


@pytest.mark.parametrize("verb", ["move", "release"])
async def test_what_is_due_in_a_moment_was_moved_or_is_ready_is_left_alone(world: World, verb: str) -> None:
    broker = await world.broker()

    async def moved(found: StoredJob) -> bool:
        return await broker.release(found) if verb == "release" else await broker.move(found, world.now() + 3600)

    await broker.enqueue(job("soon"), due=world.now() + 1.0)
    soon = await standing_one(broker)
    assert not await moved(soon)
    await world.sleep(1.5)
    ready = await standing_one(broker)
    assert ready.state == "queued"
    assert not await moved(soon)
    assert not await moved(ready)
    assert await standing_one(broker) == ready
    await broker.purge(QUEUE)

    await broker.enqueue(job("stale"), due=world.now() + 60)
    stale = await standing_one(broker)
    assert await broker.move(stale, world.now() + 90)
    after = await standing_one(broker)
    assert not await moved(stale)
    assert await standing_one(broker) == after
    await broker.remove(QUEUE, after.delivery.sequence)
    assert not await moved(after)
    assert not await broker.stored_jobs(QUEUE)

"""The contract of a broker: storing jobs, once each, now or for later."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from jetq.encoding.headers import META_HEADER, read_meta
from jetq.errors import BrokerError, PayloadTooLarge
from jetq.model.job import EnqueueReceipt, Meta, Place
from tests.integration.contract.world import QUEUE, World, job, letter, retry_of

pytestmark = pytest.mark.anyio

LIMIT = 1024 * 1024 - 32 * 1024


async def test_a_stored_job_is_delivered_as_it_was_given(world: World) -> None:
    broker = await world.broker()
    given = job(task="tests.mail.send", body=b'{"to":"a@example.com"}')
    before = world.now()

    stored = await broker.enqueue(given)
    inbox = await world.feed(broker, 1)
    (delivery,) = await inbox.collect(1)

    assert stored.disposition == "new"
    assert (delivery.id, delivery.task, delivery.queue) == (given.id, "tests.mail.send", QUEUE)
    assert (delivery.key, delivery.body) == (given.key, given.body)
    assert (delivery.sequence, delivery.count) == (stored.sequence, 1)
    assert before - 1 <= delivery.stored_at <= world.now() + 1
    assert META_HEADER not in delivery.headers


async def test_a_job_is_sent_without_waiting_and_its_sender_told(world: World) -> None:
    broker = await world.broker()
    await broker.setup(QUEUE)
    given = job(meta=Meta(max_attempts=7), fresh=True)
    told: asyncio.Queue[EnqueueReceipt | BrokerError] = asyncio.Queue()

    for _ in range(2):
        assert broker.send_job(given, told.put_nowait)
        assert told.empty()
    first, again = await told.get(), await told.get()

    inbox = await world.feed(broker, 2)
    (delivery,) = await inbox.collect(1)
    assert first == EnqueueReceipt(delivery.sequence, given.id, "new")
    assert again == first  # an id that was made for it cannot be another's
    assert (delivery.body, read_meta(delivery.headers)) == (given.body, given.meta)


async def test_a_job_that_cannot_be_sent_at_once_is_not_sent_at_all(world: World) -> None:
    broker = await world.broker()
    await broker.setup(QUEUE)
    told: list[EnqueueReceipt | BrokerError] = []

    assert not broker.send_job(job(body=b"x" * (LIMIT + 1), fresh=True), told.append)
    assert not broker.send_job(job("given"), told.append)

    await world.sleep(0.1)
    assert told == []
    assert (await world.info(broker)).ready == 0


async def test_what_a_job_has_beyond_the_default_travels_with_it(world: World) -> None:
    broker = await world.broker()
    meta = Meta(attempt=2, enqueued=1.5, max_attempts=7, timeout=None, snoozes=1)

    await broker.enqueue(job(meta=meta))
    inbox = await world.feed(broker, 1)
    (delivery,) = await inbox.collect(1)

    assert read_meta(delivery.headers) == meta


async def test_jobs_are_delivered_in_the_order_they_were_stored(world: World) -> None:
    broker = await world.broker()
    jobs = [job() for _ in range(20)]
    sequences = [(await broker.enqueue(each)).sequence for each in jobs]

    inbox = await world.feed(broker, 20)
    await inbox.collect(20)

    assert inbox.ids == [each.id for each in jobs]
    assert sequences == sorted(set(sequences))


async def test_the_same_id_again_is_stored_once(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    first = await broker.enqueue(job("same"))

    assert await other.enqueue(job("same")) == EnqueueReceipt(first.sequence, "same", "existing")

    inbox = await world.feed(broker, 2)
    await inbox.collect(1)
    await inbox.quiet()


async def test_the_same_id_again_is_recognised_after_the_job_was_finished(world: World) -> None:
    broker = await world.broker()
    first = await broker.enqueue(job("same"))
    inbox = await world.feed(broker, 1)
    broker.finish(await inbox.next())
    await broker.confirm()

    assert await broker.enqueue(job("same")) == EnqueueReceipt(first.sequence, "same", "existing")

    inbox.feed.ask(1)
    await inbox.quiet()


async def test_a_member_that_is_stored_again_is_new_once_the_earlier_job_is_gone(world: World) -> None:
    broker = await world.broker()
    place = Place("f", QUEUE, "life", "step", 0, 1, 1, 0.0, 0, 0.0)
    first = await broker.enqueue(job("same", meta=Meta(flow=place)))
    again = job("same", meta=Meta(flow=replace(place, again=True)))
    inbox = await world.feed(broker, 1)
    running = await inbox.next()

    assert await broker.enqueue(again) == EnqueueReceipt(first.sequence, "same", "existing")
    broker.finish(running)
    await broker.confirm()

    answers = [await broker.enqueue(again), *await broker.enqueue_many([again])]
    assert [answer.disposition for answer in answers if isinstance(answer, EnqueueReceipt)] == ["new", "existing"]
    inbox.feed.ask(2)
    await inbox.collect(1)


async def test_a_member_that_was_stored_again_is_recognised_after_it_was_finished(world: World) -> None:
    """Guarantee: who mends a workflow and who feeds it at the same time store each member once."""
    broker = await world.broker()
    place = Place("f", QUEUE, "life", "step", 0, 1, 1, 0.0, 0, 0.0)
    await broker.enqueue(job("same", meta=Meta(flow=replace(place, again=True))))
    inbox = await world.feed(broker, 1)
    broker.finish(await inbox.next())
    await broker.confirm()

    await broker.enqueue_many([job("same", meta=Meta(flow=place), fresh=True)])

    assert (await world.info(broker)).ready == 0
    inbox.feed.ask(1)
    await inbox.quiet()


async def test_of_many_at_once_with_one_id_one_is_stored(world: World) -> None:
    broker = await world.broker()

    answers = await asyncio.gather(*(broker.enqueue(job("same")) for _ in range(50)))

    assert sorted(answer.disposition for answer in answers) == ["existing"] * 49 + ["new"]
    assert (await world.info(broker)).ready == 1


async def test_a_job_for_later_is_never_early(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 3)
    start = world.now()
    dues = {"third": start + 1.5, "first": start + 0.5, "second": start + 1.0}
    for id, due in dues.items():
        await broker.enqueue(job(id), due=due)

    await inbox.collect(3)

    assert inbox.ids == ["first", "second", "third"]
    for id, arrived_at in zip(inbox.ids, inbox.arrived_at, strict=True):
        assert dues[id] <= arrived_at < dues[id] + 1


async def test_a_job_that_is_due_already_is_delivered_at_once(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 1)

    await broker.enqueue(job("past"), due=world.now() - 60)

    await inbox.collect(1)


async def test_the_same_id_again_is_recognised_while_it_is_scheduled_and_after(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 3)
    await broker.enqueue(job("same"), due=world.now() + 0.5)

    assert (await broker.enqueue(job("same"), due=world.now() + 0.5)).disposition == "existing"
    assert (await broker.enqueue(job("same"))).disposition == "existing"
    await inbox.collect(1)
    assert (await broker.enqueue(job("same"))).disposition == "existing"
    await inbox.quiet(1.0)


async def test_many_are_answered_each_in_order(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job("b"))
    too_large = job("c", body=b'"%s"' % (b"x" * LIMIT))

    answers = await broker.enqueue_many([job("a"), job("b"), too_large, job("d")])

    a, b, c, d = answers
    assert isinstance(a, EnqueueReceipt)
    assert a.disposition == "new"
    assert isinstance(b, EnqueueReceipt)
    assert b.disposition == "existing"
    assert isinstance(c, PayloadTooLarge)
    assert c.job_ids == ("c",)
    assert isinstance(d, EnqueueReceipt)
    assert d.sequence > a.sequence
    inbox = await world.feed(broker, 10)
    await inbox.collect(3)
    assert inbox.ids == ["b", "a", "d"]


async def test_many_may_be_none(world: World) -> None:
    assert list(await (await world.broker()).enqueue_many([])) == []


async def test_many_may_be_for_later(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5)
    due = world.now() + 0.5

    await broker.enqueue_many([job() for _ in range(5)], due=due)

    assert (await world.info(broker)).scheduled == 5
    await inbox.collect(5)
    assert min(inbox.arrived_at) >= due


async def test_a_job_too_large_is_refused_with_both_sizes(world: World) -> None:
    broker = await world.broker()
    await broker.setup(QUEUE)

    with pytest.raises(PayloadTooLarge, match=f"{LIMIT + 1:,} bytes of arguments; the limit is {LIMIT:,}") as caught:
        await broker.enqueue(job("large", body=b"x" * (LIMIT + 1)))

    assert caught.value.job_ids == ("large",)
    assert caught.value.hint
    assert await broker.find(QUEUE, "large") is None


async def test_a_job_as_large_as_allowed_leaves_room_for_its_retry_and_its_dead_letter(world: World) -> None:
    broker = await world.broker()
    body = b"x" * LIMIT
    await broker.enqueue(job("large", body=body))
    inbox = await world.feed(broker)

    first = await inbox.next()
    assert await broker.reschedule(first, retry_of(first), world.now())
    broker.finish(first)
    second = await inbox.next()
    await broker.store_dead(second, letter(second, traceback="x" * 100_000))
    broker.finish(second)

    (entry,) = await broker.dead(QUEUE)
    assert entry.body == body


async def test_setup_makes_a_queue_and_may_be_repeated(world: World) -> None:
    broker = await world.broker()

    assert list(await broker.setup("fresh")) == []
    await broker.enqueue(job("kept", queue="fresh"))
    assert list(await broker.setup("fresh")) == []
    assert list(await (await world.broker()).setup("fresh")) == []

    assert await broker.find("fresh", "kept") is not None
    assert [info.name for info in await broker.queues()] == ["fresh"]

"""The contract of a broker: a delivery stays with a holder who shows signs of life, and leaves one who does not."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.contract.world import QUEUE, World, job, letter, retry_of

pytestmark = pytest.mark.anyio

LEASE = 1.0


@pytest.fixture
def lease() -> float:
    return LEASE


async def test_the_lease_is_known_once_a_queue_is_fed(world: World) -> None:
    broker = await world.broker()
    await world.feed(broker)

    assert broker.lease == LEASE


async def test_a_lapsed_delivery_goes_to_another_and_counts(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    holder = await world.feed(broker)
    first = await holder.next()
    start = world.now()

    (again,) = await (await world.feed(other, 1)).collect(1)

    assert world.now() - start > LEASE / 2
    assert (again.id, again.sequence, again.body) == (first.id, first.sequence, first.body)
    assert again.count == 2
    assert again.token != first.token


async def test_an_extended_delivery_stays(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue_many([job() for _ in range(3)])
    holder = await world.feed(broker, 3)
    held = await holder.collect(3)
    waiting = await world.feed(other, 3)

    for _ in range(9):
        await world.sleep(LEASE / 3)
        await broker.extend(held)

    assert waiting.ids == []
    again = await waiting.collect(3)
    assert {delivery.count for delivery in again} == {2}


async def test_another_connection_on_a_thread_of_its_own_may_extend(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    held = await (await world.feed(broker)).next()
    waiting = await world.feed(other, 1)

    async def extend_once() -> None:
        renewing = await world.unclosed()
        await renewing.extend([held])
        await renewing.close()

    for _ in range(6):
        await world.sleep(LEASE / 3)
        await asyncio.to_thread(asyncio.run, extend_once())

    assert waiting.ids == []


async def test_extending_nothing_is_nothing(world: World) -> None:
    await (await world.broker()).extend([])


async def test_a_late_finish_removes_the_job_under_its_next_holder(world: World) -> None:
    """Acks do not fence, which is why a worker whose lease has lapsed must not settle."""
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job("job"))
    late = await (await world.feed(broker)).next()
    inbox = await world.feed(other, 1)
    await inbox.collect(1)

    broker.finish(late)
    await broker.confirm()

    assert await other.find(QUEUE, "job") is None
    inbox.feed.ask(1)
    await inbox.quiet(2 * LEASE)


async def test_a_redelivered_original_is_superseded_by_its_stored_retry(world: World) -> None:
    """The worker died between storing the retry and the finish, and the retry is due after the lease."""
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job("job"))
    delivery = await (await world.feed(broker)).next()
    await broker.reschedule(delivery, retry_of(delivery), world.now() + 2.5 * LEASE)

    inbox = await world.feed(other)
    stale = await inbox.next()

    assert (stale.sequence, stale.count) == (delivery.sequence, 2)
    assert await other.is_superseded(stale)
    assert not await other.reschedule(stale, retry_of(stale), world.now())
    other.finish(stale)
    other.finish(await inbox.next())
    await other.confirm()
    assert await other.find(QUEUE, "job") is None


async def test_a_stale_original_does_not_come_back_after_its_retry_is_done(world: World) -> None:
    """Guarantee: a job that finished does not run again because an earlier attempt's finish was lost."""
    broker = await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()

    await broker.reschedule(delivery, retry_of(delivery), world.now() + LEASE / 2)
    again = await inbox.next()
    assert again.sequence > delivery.sequence
    broker.finish(again)
    await broker.confirm()

    inbox.feed.ask(1)
    await inbox.quiet(2 * LEASE)


async def test_giving_back_forgets_the_count(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    await (await world.feed(broker)).next()
    inbox = await world.feed(other)
    again = await inbox.next()
    assert again.count == 2

    await other.give_back(again, retry_of(again, attempt=1))

    assert (await inbox.next()).count == 1


async def test_starts_stay_with_a_redelivered_message(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    delivery = await (await world.feed(broker)).next()
    await broker.record_start(delivery, 1)

    again = await (await world.feed(other)).next()

    assert again.count == 2
    assert await other.recorded_starts(again) == 1


async def test_a_stopped_feed_leaves_what_it_delivered_to_the_lease(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    holder = await world.feed(broker)
    await holder.next()
    await holder.feed.stop()

    assert (await (await world.feed(other)).next()).count == 2


@pytest.mark.parametrize("settle", ["reschedule", "reschedule at once", "give back", "store dead", "finish"])
async def test_what_becomes_of_one_delivery_does_not_keep_its_neighbours(world: World, settle: str) -> None:
    """Guarantee: whoever is settled last, what else was handed out comes back. nats-server 2.15.1 forgets it after some
    ways of removing the newest delivery."""
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue_many([job(id) for id in ("a", "b", "newest")])
    holder = await world.feed(broker, 3)
    newest = (await holder.collect(3))[-1]

    match settle:
        case "reschedule":
            await broker.reschedule(newest, retry_of(newest), world.now() + 3600)
            broker.finish(newest)
        case "reschedule at once":
            await broker.reschedule(newest, retry_of(newest), world.now())
            broker.finish(newest)
        case "give back":
            await broker.give_back(newest, retry_of(newest, attempt=1))
        case "store dead":
            await broker.store_dead(newest, letter(newest))
            broker.finish(newest)
        case _:
            broker.finish(newest)
    await broker.confirm()
    again = ["newest"] if settle in ("reschedule at once", "give back") else []

    inbox = await world.feed(other, 5)

    counts = {delivery.id: delivery.count for delivery in await inbox.collect(2 + len(again))}
    assert counts == {"a": 2, "b": 2, **dict.fromkeys(again, 1)}

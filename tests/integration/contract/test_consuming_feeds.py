"""The contract of a broker: feeds deliver what was asked for, no more, and end without a trace."""

from __future__ import annotations

import pytest

from tests.integration.contract.world import QUEUE, World, job

pytestmark = pytest.mark.anyio


async def test_nothing_is_delivered_before_it_is_asked_for(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job())

    inbox = await world.feed(broker, 0)

    assert inbox.feed.asked == 0
    await inbox.quiet()


async def test_no_more_is_delivered_than_was_asked_for(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue_many([job() for _ in range(10)])

    inbox = await world.feed(broker, 3)
    await inbox.collect(3)
    await inbox.quiet()

    info = await world.info(broker)
    assert (info.running, info.ready) == (3, 7)


async def test_what_arrives_is_not_asked_for_any_more(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5)
    assert inbox.feed.asked == 5

    await broker.enqueue_many([job(), job()])
    await inbox.collect(2)

    assert inbox.feed.asked == 3


async def test_asking_again_is_no_more(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 3)

    inbox.feed.ask(3)
    inbox.feed.ask(3)
    assert inbox.feed.asked == 3
    await broker.enqueue_many([job() for _ in range(10)])

    await inbox.collect(3)
    await inbox.quiet()


async def test_asking_for_fewer_takes_nothing_back(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5)

    inbox.feed.ask(2)

    assert inbox.feed.asked == 5
    await broker.enqueue_many([job() for _ in range(10)])
    await inbox.collect(5)


async def test_slots_may_be_asked_for_one_by_one(world: World) -> None:
    broker = await world.broker()
    jobs = [job() for _ in range(30)]
    await broker.enqueue_many(jobs)
    inbox = await world.feed(broker)

    for _ in jobs:
        broker.finish(await inbox.next())

    assert inbox.ids == [each.id for each in jobs]


async def test_a_job_stored_while_a_feed_waits_is_delivered(world: World) -> None:
    broker, producer = await world.broker(), await world.broker()
    inbox = await world.feed(broker, 1)
    await inbox.quiet()

    await producer.enqueue(job("fresh"))

    await inbox.collect(1, timeout=2)


async def test_two_feeds_share_and_each_job_goes_to_one(world: World) -> None:
    one, two = await world.broker(), await world.broker()
    first, second = await world.feed(one, 10), await world.feed(two, 10)

    jobs = [job() for _ in range(20)]
    await one.enqueue_many(jobs)
    await first.collect(10)
    await second.collect(10)

    assert sorted(first.ids + second.ids) == sorted(each.id for each in jobs)


async def test_a_feed_gets_nothing_of_another_queue(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5, queue="mine")

    await broker.enqueue(job(queue="other"))
    await broker.enqueue(job("mine", queue="mine"))

    await inbox.collect(1)
    await inbox.quiet()
    assert inbox.ids == ["mine"]


async def test_a_feed_makes_its_queue(world: World) -> None:
    broker = await world.broker()

    await world.feed(broker, queue="fresh")

    assert [info.name for info in await broker.queues()] == ["fresh"]


async def test_what_is_stored_after_stop_goes_to_another_feed_as_new(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    stopped = await world.feed(broker, 5)

    await stopped.feed.stop()
    await broker.enqueue(job("after"))
    inbox = await world.feed(other, 1)

    (delivery,) = await inbox.collect(1)
    assert delivery.count == 1
    assert stopped.ids == []


async def test_stop_leaves_nothing_under_way_to_nobody(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    jobs = [job() for _ in range(200)]
    await broker.enqueue_many(jobs)

    stopped = await world.feed(broker, 100)
    await stopped.feed.stop()
    had = len(stopped.ids)
    inbox = await world.feed(other, 200)
    await inbox.collect(200 - had)

    assert len(stopped.ids) == had
    assert sorted(stopped.ids + inbox.ids) == sorted(each.id for each in jobs)
    assert {delivery.count for delivery in inbox.deliveries} == {1}


async def test_a_stopped_feed_delivers_nothing_it_is_asked_for(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job())
    inbox = await world.feed(broker)
    await inbox.feed.stop()

    inbox.feed.ask(1)

    await inbox.quiet()
    assert (await world.info(broker)).ready == 1


async def test_a_feed_may_be_stopped_while_what_it_delivered_is_worked_on(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job("held"))
    inbox = await world.feed(broker)
    held = await inbox.next()

    await inbox.feed.stop()
    broker.finish(held)
    await broker.confirm()

    assert await broker.find(QUEUE, "held") is None

"""The contract of levels: each has its feed, which says when nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.model.job import LEVELS, JobRecord, Level
from tests.integration.contract.world import QUEUE, Inbox, World, job, letter, retry_of

pytestmark = pytest.mark.anyio


async def _feed(
    world: World, broker: Broker, level: Level, slots: int, on_clear: Callable[[], None] = lambda: None
) -> Inbox:
    inbox = Inbox(world, broker)
    inbox.feed = await broker.feed(QUEUE, inbox.arrive, level=level, on_clear=on_clear)
    inbox.feed.ask(slots)
    return inbox


def _of(level: Level, id: str | None = None) -> JobRecord:
    return replace(job(id), level=level)


async def test_a_queue_has_levels_from_its_first_job_of_one_or_when_set_up_so(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job())
    assert not await broker.levels(QUEUE)
    await broker.enqueue(_of("high"))
    assert await broker.levels(QUEUE)
    assert await other.levels(QUEUE)
    assert list(await broker.setup("another", levels=True)) == []
    assert await other.levels("another")


async def test_each_level_has_its_own_feed_and_its_jobs_keep_it(world: World) -> None:
    broker = await world.broker()
    for level in LEVELS:
        await broker.enqueue(_of(level, level))
    assert (await world.info(broker)).ready == 3
    for level in LEVELS:
        inbox = await _feed(world, broker, level, 5)
        (delivery,) = await inbox.collect(1)
        assert (delivery.id, delivery.level) == (level, level)
        await inbox.quiet()
        assert await broker.reschedule(delivery, replace(retry_of(delivery), level=level), world.now() + 0.5)
        broker.finish(delivery)
        again = (await inbox.collect(2))[1]
        assert (again.id, again.level) == (level, level)
        await broker.give_back(again, replace(retry_of(again, 3), level=level))
        third = (await inbox.collect(3))[2]
        assert (third.id, third.level) == (level, level)
        broker.finish(third)
    await broker.confirm()
    assert (await world.info(broker)).ready == 0


async def test_a_level_is_found_in_what_stands_and_in_what_is_replayed(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(_of("low", "later"), due=world.now() + 60)
    await broker.enqueue(_of("high", "now"))
    assert {found.delivery.id: found.delivery.level for found in await broker.stored_jobs(QUEUE)} == {
        "later": "low",
        "now": "high",
    }
    found = await broker.find(QUEUE, "later")
    assert found is not None and await broker.release(found)
    low = await _feed(world, broker, "low", 1)
    (delivery,) = await low.collect(1)
    await broker.store_dead(delivery, replace(letter(delivery), level="low"))
    broker.finish(delivery)
    await broker.confirm()
    (entry,) = await broker.dead(QUEUE)
    assert await broker.replay(entry, replace(_of("low", "later"), body=entry.body))
    low.feed.ask(1)
    assert (await low.collect(2))[1].level == "low"


async def test_a_feed_knows_what_is_left_of_its_level_and_says_when_it_is_nothing(world: World) -> None:
    broker = await world.broker()
    await broker.setup(QUEUE, levels=True)
    await broker.enqueue_many([_of("high", f"high-{n}") for n in range(3)])
    await broker.enqueue(job())
    clear: list[bool] = []
    inbox = await _feed(world, broker, "high", 1, lambda: clear.append(True))
    (first,) = await inbox.collect(1)
    assert inbox.feed.left == 2
    inbox.feed.ask(5)
    await inbox.collect(3)
    assert inbox.feed.asked == 3
    await world.until(lambda: inbox.feed.left == 0, "nothing is left")
    broker.finish(first)
    await broker.enqueue(_of("high", "one-more"))
    assert (await inbox.collect(4))[3].id == "one-more"


async def test_a_pause_holds_back_every_level(world: World) -> None:
    broker = await world.broker()
    await broker.setup(QUEUE, levels=True)
    await broker.pause(QUEUE)
    inboxes = [await _feed(world, broker, level, 1) for level in LEVELS]
    for level in LEVELS:
        await broker.enqueue(_of(level))
    await world.sleep(0.3)
    assert not any(inbox.deliveries for inbox in inboxes)
    await broker.resume(QUEUE)
    for inbox in inboxes:
        await inbox.collect(1)


async def test_a_key_is_taken_in_every_level(world: World) -> None:
    broker = await world.broker()
    keyed = replace(_of("low", "a~k"), key="k")
    assert (await broker.enqueue(keyed)).disposition == "new"
    answer = await broker.enqueue(replace(_of("high", "b~k"), key="k"))
    assert (answer.id, answer.disposition) == ("a~k", "existing")

"""The contract of a broker: a queue is removed with what belongs to it, and never with a job or a dead letter."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.model.names import key_token, keyed_id
from jetq.model.schedule import ScheduleRecord
from tests.integration.contract.world import QUEUE, World, job, letter

pytestmark = pytest.mark.anyio


async def queues(broker: Broker) -> list[str]:
    return [info.name for info in await broker.queues()]


async def test_an_empty_queue_is_removed_with_its_schedules_and_pauses(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.setup(QUEUE, levels=True)
    await broker.enqueue(job(queue="other"))
    await broker.pause(QUEUE)
    schedule = ScheduleRecord(name="beats", task="tests.mail", queue=QUEUE, pattern="@every 3600s")
    assert await broker.put_schedule(schedule, b"{}", 0)

    assert await other.remove_queue(QUEUE) is True

    assert await queues(broker) == ["other"]
    assert await broker.schedules(QUEUE) == []
    assert await broker.dead(QUEUE) == []
    assert await other.remove_queue(QUEUE) is True
    await broker.enqueue(job("anew"))
    inbox = await world.feed(broker, 1)
    assert [delivery.id for delivery in await inbox.collect(1)] == ["anew"]
    assert (await world.info(broker)).paused_until is None


async def test_what_the_fleet_keeps_of_its_jobs_goes_with_it(world: World) -> None:
    broker = await world.broker()
    token = key_token("customer")
    for queue in (QUEUE, "other"):
        each = replace(job(keyed_id("job", token), queue=queue), key=token)
        assert await broker.throttle(each, 600) is None
        await broker.setup(each.queue)
        await broker.mark_cancelled(each.queue, "job")
    await broker.write_cell(f"off.{QUEUE}.job", b"")

    assert await broker.remove_queue(QUEUE)

    later = replace(job(keyed_id("later", token)), key=token)
    assert await broker.throttle(later, 600) is None
    assert await broker.read_cell(f"off.{QUEUE}.job") is None
    marked: list[str] = []
    await broker.watch_cancelled(QUEUE, lambda id, cancelled: marked.append(id))
    assert marked == []
    await broker.watch_cancelled("other", lambda id, cancelled: marked.append(id))
    assert marked == ["job"]


@pytest.mark.parametrize("what", ["ready", "running", "scheduled", "dead"])
async def test_a_queue_that_holds_something_stays_as_it_was(world: World, what: str) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job("held"), due=world.now() + 600 if what == "scheduled" else None)
    if what in ("running", "dead"):
        delivery = await (await world.feed(broker)).next()
        if what == "dead":
            await broker.store_dead(delivery, letter(delivery))
            broker.finish(delivery)
            await broker.confirm()
    before = await world.info(broker)

    assert await other.remove_queue(QUEUE) is False

    assert await world.info(broker) == before
    assert (await other.enqueue(job("another"))).disposition == "new"


async def test_a_feed_of_a_removed_queue_gets_the_jobs_of_the_one_that_is_made_next(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    inbox = await world.feed(broker, 1)

    assert await other.remove_queue(QUEUE)
    await other.enqueue(job("anew"))

    assert [delivery.id for delivery in await inbox.collect(1, 20.0)] == ["anew"]

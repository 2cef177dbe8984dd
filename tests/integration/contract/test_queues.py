"""The contract of a broker: seeing what stands, and mending what died."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jetq.encoding.headers import read_meta
from jetq.errors import BrokerUnavailable
from jetq.model.dead_letter import DeadEntry
from jetq.model.failure import Failure
from jetq.model.queue_info import QueueInfo
from jetq.model.result import ResultRecord
from jetq.operations.dead_letters import revived
from tests.integration.contract.world import QUEUE, World, job, letter

pytestmark = pytest.mark.anyio


async def store_dead(
    world: World, ids: Sequence[str], *, task: str = "tests.mail", queue: str = QUEUE
) -> list[DeadEntry]:
    """Let jobs of these ids be stored, delivered and buried."""
    broker = await world.broker()
    await broker.enqueue_many([job(id, task=task, queue=queue) for id in ids])
    inbox = await world.feed(broker, len(ids), queue)
    for delivery in await inbox.collect(len(ids)):
        await broker.store_dead(delivery, letter(delivery))
        broker.finish(delivery)
    await inbox.feed.stop()
    await broker.confirm()
    return [entry for entry in await broker.dead(queue) if entry.letter.id in ids]


def ids_of(entries: Sequence[DeadEntry]) -> list[str]:
    return [entry.letter.id for entry in entries]


# --- find and queues


async def test_what_is_not_there_is_not_found(world: World) -> None:
    broker = await world.broker()
    assert await broker.find(QUEUE, "unknown") is None

    await broker.enqueue(job("elsewhere", queue="other"))

    assert await broker.find(QUEUE, "elsewhere") is None


async def test_a_job_is_found_as_it_stands(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    given = job("job")
    due = world.now() + 0.5
    await broker.enqueue(given, due=due)

    found = await other.find(QUEUE, "job")
    assert found is not None
    assert (found.state, found.in_flight) == ("scheduled", False)
    assert found.due == pytest.approx(due, abs=0.001)
    assert (found.delivery.id, found.delivery.task, found.delivery.body) == ("job", given.task, given.body)

    await world.sleep(1.0)
    found = await other.find(QUEUE, "job")
    assert found is not None
    assert (found.state, found.due, found.in_flight) == ("queued", None, False)

    delivery = await (await world.feed(broker)).next()
    found = await other.find(QUEUE, "job")
    assert found is not None
    assert (found.state, found.in_flight, found.delivery.sequence) == ("queued", True, delivery.sequence)

    broker.finish(delivery)
    await broker.confirm()
    assert await other.find(QUEUE, "job") is None


async def test_queues_are_counted(world: World) -> None:
    broker = await world.broker()
    await store_dead(world, ["dead-1", "dead-2"])
    await broker.enqueue_many([job() for _ in range(5)])
    await broker.enqueue_many([job() for _ in range(3)], due=world.now() + 60)
    held = await world.feed(broker, 2)
    await held.collect(2)
    await world.feed(broker, 4, queue="idle")

    assert list(await broker.queues()) == [
        QueueInfo(name=QUEUE, ready=3, running=2, scheduled=3, dead=2, waiting=0),
        QueueInfo(name="idle", ready=0, running=0, scheduled=0, dead=0, waiting=1),
    ]


async def test_there_may_be_no_queues(world: World) -> None:
    assert list(await (await world.broker()).queues()) == []


# --- dead letters


async def test_dead_letters_are_listed_oldest_first(world: World) -> None:
    broker = await world.broker()
    await store_dead(world, ["a", "b"], task="tests.mail")
    await store_dead(world, ["c", "d"], task="tests.pay")

    assert ids_of(await broker.dead(QUEUE)) == ["a", "b", "c", "d"]
    assert ids_of(await broker.dead(QUEUE, limit=3)) == ["a", "b", "c"]
    assert ids_of(await broker.dead(QUEUE, limit=0)) == []
    assert ids_of(await broker.dead(QUEUE, task="tests.pay")) == ["c", "d"]
    assert ids_of(await broker.dead(QUEUE, task="tests.pay", limit=1)) == ["c"]
    assert ids_of(await broker.dead(QUEUE, id="b")) == ["b"]
    assert ids_of(await broker.dead(QUEUE, id="b", task="tests.pay")) == []
    assert ids_of(await broker.dead("unknown")) == []


async def test_dead_letters_are_purged_and_counted(world: World) -> None:
    broker = await world.broker()
    await store_dead(world, ["a", "b", "c"], task="tests.mail")
    await store_dead(world, ["d", "e", "f"], task="tests.pay")

    assert await broker.purge_dead(QUEUE, id="b") == 1
    assert await broker.purge_dead(QUEUE, id="b") == 0
    assert await broker.purge_dead(QUEUE, task="tests.pay") == 3
    assert ids_of(await broker.dead(QUEUE)) == ["a", "c"]
    assert await broker.purge_dead(QUEUE) == 2
    assert ids_of(await broker.dead(QUEUE)) == []
    assert await broker.purge_dead("unknown") == 0


# --- replay


async def test_a_replayed_job_is_back_and_its_traces_are_gone(world: World) -> None:
    broker = await world.broker()
    first, _ = await store_dead(world, ["first", "second"])
    failure = Failure(type="builtins.ValueError", message="no")
    record = ResultRecord(
        id="first", state="dead", task="tests.mail", queue=QUEUE, attempt=3, sequence=1, at=1.0, failure=failure
    )
    await broker.put_result(record, 60)

    assert await broker.replay(first, revived(first))

    assert await broker.get_result(QUEUE, "first") is None
    assert ids_of(await broker.dead(QUEUE)) == ["second"]
    delivery = await (await world.feed(broker)).next()
    assert (delivery.id, delivery.task, delivery.body) == ("first", "tests.mail", first.body)
    assert delivery.count == 1
    assert read_meta(delivery.headers).replays == 1


async def test_a_job_that_stands_is_not_replayed(world: World) -> None:
    broker = await world.broker()
    (entry,) = await store_dead(world, ["job"])
    assert await broker.replay(entry, revived(entry))

    assert not await broker.replay(entry, revived(entry))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    assert not await broker.replay(entry, revived(entry))
    await broker.reschedule(delivery, revived(entry), world.now() + 60)
    broker.finish(delivery)
    assert not await broker.replay(entry, revived(entry))

    info = await world.info(broker)
    assert (info.ready, info.running, info.scheduled) == (0, 0, 1)


async def test_a_refused_replay_changes_nothing(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    await broker.store_dead(delivery, letter(delivery))
    (entry,) = await broker.dead(QUEUE)
    record = ResultRecord(id="job", state="dead", task="tests.mail", queue=QUEUE, attempt=1, sequence=1, at=1.0)
    await broker.put_result(record, 60)

    assert not await broker.replay(entry, revived(entry))

    assert ids_of(await broker.dead(QUEUE)) == ["job"]
    assert await broker.get_result(QUEUE, "job") is not None
    assert (await world.info(broker)).running == 1


async def test_of_a_job_that_died_twice_one_letter_is_replayed(world: World) -> None:
    broker = await world.broker()
    (first,) = await store_dead(world, ["job"])
    await broker.replay(first, revived(first))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    await broker.store_dead(delivery, letter(delivery))
    broker.finish(delivery)
    await broker.confirm()
    (second,) = await broker.dead(QUEUE)

    assert await broker.replay(second, revived(second))

    assert (await inbox.next()).id == "job"
    assert ids_of(await broker.dead(QUEUE)) == []


# --- the end


async def test_closing_may_be_repeated_and_a_closed_broker_says_so(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job())
    await world.feed(broker, 1)

    await broker.close()
    await broker.close()
    await broker.confirm()

    with pytest.raises(BrokerUnavailable):
        await broker.enqueue(job(), timeout=1.0)
    with pytest.raises(BrokerUnavailable):
        await broker.queues()

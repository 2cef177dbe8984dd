"""The contract of a broker: what becomes of a delivery. Each next step is stored once, nothing is lost on the way."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jetq.encoding.headers import read_meta
from jetq.model.failure import Failure
from jetq.model.job import Delivery
from jetq.model.result import ResultRecord
from jetq.operations.dead_letters import revived
from tests.integration.contract.world import QUEUE, Inbox, World, job, letter, retry_of

pytestmark = pytest.mark.anyio


async def delivered(world: World, id: str = "job") -> tuple[Inbox, Delivery]:
    """A stored job, handed out, with the feed it came on."""
    broker = await world.broker()
    await broker.enqueue(job(id))
    inbox = await world.feed(broker)
    return inbox, await inbox.next()


# --- finish


async def test_a_finished_job_is_gone(world: World) -> None:
    inbox, delivery = await delivered(world)

    inbox.broker.finish(delivery)
    await inbox.broker.confirm()

    assert await inbox.broker.find(QUEUE, "job") is None
    info = await world.info(inbox.broker)
    assert (info.ready, info.running, info.scheduled) == (0, 0, 0)


async def test_finishing_twice_is_finishing(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.enqueue(job("next"))

    inbox.broker.finish(delivery)
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()

    assert (await inbox.next()).id == "next"


# --- reschedule


async def test_the_next_attempt_is_delivered_as_given_and_not_early(world: World) -> None:
    inbox, delivery = await delivered(world)
    due = world.now() + 0.7

    assert await inbox.broker.reschedule(delivery, retry_of(delivery, attempt=2), due)
    inbox.broker.finish(delivery)
    again = await inbox.next()

    assert inbox.arrived_at[-1] >= due
    assert (again.id, again.task, again.key, again.body) == ("job", delivery.task, delivery.key, delivery.body)
    assert again.sequence > delivery.sequence
    assert again.count == 1
    assert read_meta(again.headers).attempt == 2
    assert read_meta(again.headers).enqueued == delivery.stored_at


async def test_the_next_attempt_may_have_other_arguments(world: World) -> None:
    inbox, delivery = await delivered(world)

    await inbox.broker.reschedule(delivery, job("job", body=b'{"n":"other"}'), world.now())
    inbox.broker.finish(delivery)

    assert (await inbox.next()).body == b'{"n":"other"}'


async def test_a_repeated_reschedule_stores_nothing_more(world: World) -> None:
    inbox, delivery = await delivered(world)
    due = world.now() + 1.0

    assert await inbox.broker.reschedule(delivery, retry_of(delivery), due)
    assert not await inbox.broker.reschedule(delivery, retry_of(delivery), due)
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()  # a stream and its consumers are counted one after another

    assert (await world.info(inbox.broker)).scheduled == 1
    inbox.broker.finish(await inbox.next())
    inbox.feed.ask(2)
    await inbox.quiet(1.0)


async def test_a_reschedule_repeated_after_the_next_attempt_fired_stores_nothing(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)
    again = await inbox.next()

    assert not await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)

    inbox.broker.finish(again)
    inbox.feed.ask(2)
    await inbox.quiet(1.0)


async def test_a_reschedule_repeated_after_the_next_attempt_finished_stores_nothing(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)
    inbox.broker.finish(await inbox.next())
    await inbox.broker.confirm()

    assert not await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)
    assert await inbox.broker.find(QUEUE, "job") is None


async def test_what_is_gone_is_not_rescheduled(world: World) -> None:
    inbox, delivery = await delivered(world)
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()

    assert not await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)
    assert not await inbox.broker.reschedule(delivery, retry_of(delivery), world.now())

    assert await inbox.broker.find(QUEUE, "job") is None


async def test_a_reschedule_without_its_finish_leaves_one_job_once_it_is_due(world: World) -> None:
    """The worker died between the two: its message must not come back beside the next attempt."""
    inbox, delivery = await delivered(world)
    await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)

    again = await inbox.next()

    assert again.sequence > delivery.sequence
    inbox.broker.finish(again)
    await inbox.broker.confirm()
    info = await world.info(inbox.broker)
    assert (info.ready, info.running, info.scheduled) == (0, 0, 0)


async def test_five_snoozes_in_a_row_are_all_stored(world: World) -> None:
    """Guarantee: no dedup window swallows the second snooze, whose finish would then lose the job."""
    inbox, delivery = await delivered(world)

    for _ in range(5):
        assert await inbox.broker.reschedule(delivery, retry_of(delivery, attempt=1), world.now() + 0.4)
        inbox.broker.finish(delivery)
        delivery = await inbox.next()

    inbox.broker.finish(delivery)
    await inbox.broker.confirm()
    assert inbox.ids == ["job"] * 6
    assert await inbox.broker.find(QUEUE, "job") is None


async def test_a_job_replayed_and_retried_and_dead_again_within_the_dedup_window_is_kept(world: World) -> None:
    """Guarantee: no dedup window swallows the retry of a replayed job, its replay or its second dead letter."""
    inbox, delivery = await delivered(world)
    broker = inbox.broker

    for _ in range(2):
        await broker.store_dead(delivery, letter(delivery))
        broker.finish(delivery)
        await broker.confirm()
        (entry,) = await broker.dead(QUEUE)
        assert entry.letter.sequence == delivery.sequence
        assert await broker.replay(entry, revived(entry))
        replayed = await inbox.next()
        assert await broker.reschedule(replayed, retry_of(replayed), world.now() + 0.4)
        broker.finish(replayed)
        delivery = await inbox.next()

    broker.finish(delivery)
    await broker.confirm()
    assert inbox.ids == ["job"] * 5
    assert list(await broker.dead(QUEUE)) == []
    assert await broker.find(QUEUE, "job") is None


# --- give back


async def test_what_is_given_back_goes_out_at_once_as_if_new(world: World) -> None:
    inbox, delivery = await delivered(world)
    other = await world.feed(await world.broker(), 1)

    await inbox.broker.give_back(delivery, retry_of(delivery, attempt=1))

    (again,) = await other.collect(1, timeout=2)
    assert again.count == 1
    assert (again.id, again.task, again.body) == ("job", delivery.task, delivery.body)
    assert read_meta(again.headers).enqueued == delivery.stored_at
    info = await world.info(inbox.broker)
    assert (info.ready, info.running, info.scheduled) == (0, 1, 0)


async def test_what_is_given_back_may_have_other_arguments(world: World) -> None:
    inbox, delivery = await delivered(world)
    other = await world.feed(await world.broker(), 1)

    await inbox.broker.give_back(delivery, replace(retry_of(delivery, attempt=1), body=b'{"x":2}'))

    (again,) = await other.collect(1, timeout=2)
    assert again.body == b'{"x":2}'


async def test_giving_back_twice_gives_back_once(world: World) -> None:
    inbox, delivery = await delivered(world)

    await inbox.broker.give_back(delivery, retry_of(delivery, attempt=1))
    await inbox.broker.give_back(delivery, retry_of(delivery, attempt=1))

    inbox.feed.ask(2)
    await inbox.collect(2)
    await inbox.quiet()


async def test_what_was_rescheduled_or_is_gone_is_not_given_back(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 60)

    await inbox.broker.give_back(delivery, retry_of(delivery))
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()
    await inbox.broker.enqueue(job("gone"))
    gone = await inbox.next()
    inbox.broker.finish(gone)
    await inbox.broker.confirm()
    await inbox.broker.give_back(gone, retry_of(gone))

    info = await world.info(inbox.broker)
    assert (info.ready, info.running, info.scheduled) == (0, 0, 1)


# --- dead letters


async def test_a_buried_job_is_kept_with_its_bytes_and_story(world: World) -> None:
    inbox, delivery = await delivered(world)
    written = letter(delivery, at=world.now())

    await inbox.broker.store_dead(delivery, written)
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()

    (entry,) = await inbox.broker.dead(QUEUE)
    assert (entry.letter, entry.body) == (written, delivery.body)
    info = await world.info(inbox.broker)
    assert (info.ready, info.running, info.dead) == (0, 0, 1)


async def test_a_job_is_buried_once_however_often(world: World) -> None:
    inbox, delivery = await delivered(world)

    await inbox.broker.store_dead(delivery, letter(delivery, at=1.0))
    await (await world.broker()).store_dead(delivery, letter(delivery, at=2.0))

    (entry,) = await inbox.broker.dead(QUEUE)
    assert entry.letter.at == 1.0


async def test_a_story_too_long_is_cut_and_kept(world: World) -> None:
    inbox, delivery = await delivered(world)

    await inbox.broker.store_dead(delivery, letter(delivery, traceback="x" * 2_000_000))

    (entry,) = await inbox.broker.dead(QUEUE)
    assert entry.letter.id == "job"
    assert len(entry.letter.failure.traceback) < 32 * 1024


# --- superseded


def result_of(delivery: Delivery, sequence: int | None = None) -> ResultRecord:
    return ResultRecord(
        id=delivery.id,
        state="dead",
        task=delivery.task,
        queue=delivery.queue,
        attempt=1,
        sequence=delivery.sequence if sequence is None else sequence,
        at=1.0,
        failure=Failure(type="builtins.ValueError", message="no"),
    )


async def test_what_is_being_worked_on_is_not_superseded(world: World) -> None:
    inbox, delivery = await delivered(world)

    assert not await inbox.broker.is_superseded(delivery)


async def test_a_stored_next_attempt_supersedes(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.reschedule(delivery, retry_of(delivery), world.now() + 0.4)

    assert await inbox.broker.is_superseded(delivery)
    again = await inbox.next()
    assert await inbox.broker.is_superseded(delivery)
    assert not await inbox.broker.is_superseded(again)


async def test_what_is_gone_is_superseded(world: World) -> None:
    inbox, delivery = await delivered(world)
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()

    assert await inbox.broker.is_superseded(delivery)


async def test_what_is_buried_is_superseded_and_its_replay_is_not(world: World) -> None:
    inbox, delivery = await delivered(world)
    broker = inbox.broker
    await broker.store_dead(delivery, letter(delivery))

    assert await broker.is_superseded(delivery)

    broker.finish(delivery)
    await broker.confirm()
    (entry,) = await broker.dead(QUEUE)
    await broker.replay(entry, revived(entry))
    assert not await broker.is_superseded(await inbox.next())


async def test_what_has_its_own_result_is_superseded(world: World) -> None:
    inbox, delivery = await delivered(world)
    broker = inbox.broker

    await broker.put_result(result_of(delivery, sequence=delivery.sequence + 1000), 60)
    assert not await broker.is_superseded(delivery)
    await broker.put_result(result_of(delivery), 60)
    assert await broker.is_superseded(delivery)


# --- starts


async def test_starts_are_recorded_and_erased(world: World) -> None:
    inbox, delivery = await delivered(world)
    broker, other = inbox.broker, await world.broker()

    assert await broker.recorded_starts(delivery) == 0
    await broker.record_start(delivery, 1)
    assert await other.recorded_starts(delivery) == 1
    await other.record_start(delivery, 2)
    assert await broker.recorded_starts(delivery) == 2
    await broker.erase_starts(delivery)
    assert await other.recorded_starts(delivery) == 0


async def test_the_next_attempt_starts_from_nothing(world: World) -> None:
    inbox, delivery = await delivered(world)
    broker = inbox.broker
    await broker.record_start(delivery, 2)
    await broker.reschedule(delivery, retry_of(delivery), world.now())
    broker.finish(delivery)

    assert await broker.recorded_starts(await inbox.next()) == 0


async def test_starts_of_one_job_are_not_those_of_another(world: World) -> None:
    inbox, delivery = await delivered(world)
    await inbox.broker.enqueue(job("other"))
    other = await inbox.next()

    await inbox.broker.record_start(delivery, 1)

    assert await inbox.broker.recorded_starts(other) == 0

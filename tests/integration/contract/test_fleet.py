"""The contract of a broker: what stands and is removed, pauses, records that do not overwrite, marks and questions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.model.job import JobRecord
from jetq.model.names import key_token, keyed_id
from jetq.model.result import ResultRecord
from jetq.model.schedule import ScheduleRecord
from tests.apps.staying import stays_so_for
from tests.integration.contract.world import QUEUE, World, job, letter, retry_of

pytestmark = pytest.mark.anyio


def keyed(id: str, key: str, *, task: str = "tests.mail") -> JobRecord:
    token = key_token(key)
    return replace(job(keyed_id(id, token), task=task), key=token)


def record(state: str = "cancelled", *, sequence: int = 1) -> ResultRecord:
    return ResultRecord(
        id="job",
        state=state,  # type: ignore[arg-type]
        task="tests.mail",
        queue=QUEUE,
        attempt=1,
        sequence=sequence,
        at=5.0,
    )


async def ids(broker: Broker, **which: str | int | None) -> list[str]:
    return [found.delivery.id for found in await broker.stored_jobs(QUEUE, **which)]  # type: ignore[arg-type]


# --- standing, remove, purge


async def test_what_stands_is_listed_in_order_by_task_key_and_limit(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await broker.stored_jobs(QUEUE) == []
    for each in (job("a"), keyed("b", "x"), keyed("c", "y", task="tests.post"), keyed("d", "x", task="tests.post")):
        await broker.enqueue(each, due=world.now() + 60 if each.id.startswith("c") else None)
    await broker.enqueue(job("elsewhere", queue="other"))

    assert await ids(other) == ["a", "b~x", "c~y", "d~x"]
    assert await ids(other, limit=2) == ["a", "b~x"]
    assert await ids(other, task="tests.post") == ["c~y", "d~x"]
    assert await ids(other, key="x") == ["b~x", "d~x"]
    assert await ids(other, task="tests.post", key="x", limit=5) == ["d~x"]
    assert await ids(other, task="tests") == []
    states = [(found.state, found.due is not None, found.in_flight) for found in await other.stored_jobs(QUEUE)]
    assert states == [("queued", False, False)] * 2 + [("scheduled", True, False)] + [("queued", False, False)]

    inbox = await world.feed(broker, 1)
    await inbox.collect(1)
    assert [found.in_flight for found in await other.stored_jobs(QUEUE)] == [True, False, False, False]


async def test_a_removed_job_is_gone_and_only_that_one(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    ready = await broker.enqueue(job("ready"))
    await broker.enqueue(job("stays"))
    scheduled = await broker.enqueue(job("scheduled"), due=world.now() + 0.5)

    for stored in (ready, scheduled):
        assert await other.remove(QUEUE, stored.sequence) is True
        assert await other.remove(QUEUE, stored.sequence) is False

    inbox = await world.feed(broker, 5)
    await inbox.collect(1)
    await inbox.quiet(1.0)
    assert inbox.ids == ["stays"]


async def test_a_job_that_is_removed_while_it_runs_leaves_no_retry(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()

    assert await other.remove(QUEUE, delivery.sequence) is True
    assert await broker.is_superseded(delivery)
    assert await broker.reschedule(delivery, retry_of(delivery), world.now() + 60) is False
    broker.finish(delivery)
    await broker.confirm()
    assert await broker.stored_jobs(QUEUE) == []


async def test_a_purge_removes_what_waits_and_says_how_many(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await broker.purge(QUEUE) == 0
    await broker.enqueue_many([job(f"running-{n}") for n in range(2)])
    inbox = await world.feed(broker, 2)
    running = await inbox.collect(2)
    await broker.enqueue_many([job(f"ready-{n}") for n in range(3)])
    await broker.enqueue_many([keyed(f"later-{n}", f"k{n}") for n in range(4)], due=world.now() + 0.7)
    await broker.enqueue(job("elsewhere", queue="other"))
    schedule = ScheduleRecord(name="beats", task="tests.mail", queue=QUEUE, pattern="@every 3600s")
    assert await broker.put_schedule(schedule, b"{}", 0)
    await broker.store_dead(running[0], letter(running[0]))

    assert await other.purge(QUEUE) == 7

    assert await broker.stored_jobs(QUEUE) == []
    assert await broker.reschedule(running[0], retry_of(running[0]), world.now() + 0.1) is False
    await broker.give_back(running[1], retry_of(running[1], 1))
    broker.finish(running[0])
    await broker.confirm()
    inbox.feed.ask(10)
    await inbox.quiet(1.2)
    info = await world.info(broker)
    assert (info.ready, info.running, info.scheduled, info.dead) == (0, 0, 0, 1)
    assert [stored.record.name for stored in await broker.schedules(QUEUE)] == ["beats"]
    assert len(await broker.stored_jobs("other")) == 1
    assert (await broker.enqueue(keyed("again", "k0"))).disposition == "new"
    assert (await inbox.collect(3))[-1].id == "again~k0"


# --- pauses


async def test_a_paused_queue_hands_out_nothing_and_others_do(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    inbox, elsewhere = await world.feed(broker, 10), await world.feed(broker, 10, "other")
    await broker.enqueue(job("before"))
    (delivery,) = await inbox.collect(1)

    await other.pause(QUEUE)
    await broker.enqueue(job("ready"))
    await broker.enqueue(job("due"), due=world.now() + 0.2)
    await broker.enqueue(job("elsewhere", queue="other"))
    await elsewhere.collect(1)
    await inbox.quiet(1.0)
    info = await world.info(broker)
    assert (info.ready, info.running, info.scheduled, info.paused_until) == (2, 1, 0, math.inf)
    assert (await world.info(broker, "other")).paused_until is None
    broker.finish(delivery)

    await other.resume(QUEUE)
    assert [each.id for each in await inbox.collect(3)] == ["before", "ready", "due"]
    assert (await world.info(broker)).paused_until is None
    await other.resume(QUEUE)  # not paused any more, and that is no error


async def test_what_was_given_back_into_a_pause_waits_for_its_end(world: World) -> None:
    broker = await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    await broker.pause(QUEUE)
    await broker.give_back(delivery, retry_of(delivery, 1))
    await broker.confirm()
    inbox.feed.ask(5)
    await inbox.quiet(0.5)

    await broker.resume(QUEUE)
    await inbox.collect(2)
    assert inbox.ids == ["job", "job"]


async def test_a_pause_with_an_end_ends_by_itself(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5)
    end = world.now() + 1.0
    await broker.pause(QUEUE, end)
    await broker.enqueue(job("job"))
    assert (await world.info(broker)).paused_until == pytest.approx(end, abs=0.01)

    await inbox.collect(1)
    assert inbox.arrived_at[0] >= end
    assert (await world.info(broker)).paused_until is None


async def test_a_later_pause_replaces_an_earlier_one(world: World) -> None:
    broker = await world.broker()
    inbox = await world.feed(broker, 5)
    await broker.pause(QUEUE, world.now() + 0.3)
    await broker.pause(QUEUE)
    await broker.enqueue(job("job"))
    await inbox.quiet(1.0)
    end = world.now() + 0.3
    await broker.pause(QUEUE, end)
    await inbox.collect(1)
    assert inbox.arrived_at[0] >= end


async def test_a_pause_makes_a_queue_that_is_not_there_yet_and_holds_it(world: World) -> None:
    broker = await world.broker()
    await broker.pause(QUEUE)
    inbox = await world.feed(broker, 5)
    await broker.enqueue(job("job"))
    await inbox.quiet(0.5)
    assert (await world.info(broker)).paused_until == math.inf


# --- results that do not overwrite


async def test_a_result_is_kept_unless_one_is_and_is_pushed_only_then(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    waiting = asyncio.create_task(other.wait_result(QUEUE, "job", 10))
    await stays_so_for(0.1, lambda: not waiting.done())
    assert await broker.put_result(record("cancelled"), 60, unless_kept=True) is True
    pushed = await waiting
    assert pushed is not None and pushed.state == "cancelled"

    assert await other.put_result(record("succeeded"), 60, unless_kept=True) is False
    kept = await other.get_result(QUEUE, "job")
    assert kept is not None and kept.state == "cancelled"

    assert await other.put_result(record("succeeded"), 60) is True
    kept = await broker.get_result(QUEUE, "job")
    assert kept is not None and kept.state == "succeeded"


async def test_of_results_at_once_one_is_kept(world: World) -> None:
    brokers = [await world.broker() for _ in range(3)]
    records = [record(sequence=n + 1) for n in range(12)]
    answers = await asyncio.gather(
        *(brokers[n % 3].put_result(each, 60, unless_kept=True) for n, each in enumerate(records))
    )
    (place,) = [n for n, stored in enumerate(answers) if stored]
    assert await brokers[0].get_result(QUEUE, "job") == records[place]


async def test_a_result_may_be_kept_again_once_the_first_has_expired(world: World) -> None:
    broker = await world.broker()
    assert await broker.put_result(record("cancelled"), 1, unless_kept=True)
    async with asyncio.timeout(10):
        while not await broker.put_result(record("expired"), 60, unless_kept=True):
            await world.sleep(0.2)
    kept = await broker.get_result(QUEUE, "job")
    assert kept is not None and kept.state == "expired"


# --- marks of cancellation


class Marks(list[tuple[str, bool]]):
    """What a watcher was told, in order."""

    def __call__(self, id: str, cancelled: bool) -> None:
        self.append((id, cancelled))

    def latest(self) -> dict[str, bool]:
        return dict(self)


async def test_marks_reach_every_watcher_of_their_queue_and_no_other(world: World) -> None:
    broker, producer = await world.broker(), await world.broker()
    first, second, elsewhere = Marks(), Marks(), Marks()
    await broker.watch_cancelled(QUEUE, first)
    await (await world.broker()).watch_cancelled(QUEUE, second)
    await broker.watch_cancelled("other", elsewhere)

    await producer.mark_cancelled(QUEUE, "a")
    await producer.mark_cancelled(QUEUE, "b~=0f")
    await producer.unmark_cancelled(QUEUE, "a")
    await producer.mark_cancelled("other", "c")

    await world.until(lambda: ("a", False) in first and ("a", False) in second and bool(elsewhere), "the marks")
    for marks in (first, second):
        assert marks.latest() == {"a": False, "b~=0f": True}
        assert marks.index(("a", True)) < marks.index(("a", False))
    assert elsewhere.latest() == {"c": True}


async def test_what_was_marked_before_is_told_at_once_and_what_was_unmarked_is_not_told_as_marked(
    world: World,
) -> None:
    producer, broker = await world.broker(), await world.broker()
    for id in ("a", "b", "c"):
        await producer.mark_cancelled(QUEUE, id)
    await producer.mark_cancelled("other", "d")
    await producer.unmark_cancelled(QUEUE, "b")

    marks = Marks()
    await broker.watch_cancelled(QUEUE, marks)

    latest = marks.latest()
    assert latest.get("b") in (None, False)
    assert {id for id, cancelled in latest.items() if cancelled} == {"a", "c"}


# --- questions


async def answering(world: World, respond: Callable[[bytes], bytes | None], queue: str = QUEUE) -> None:
    """A broker that answers by now: whatever it does after that is done when the server has read that it listens."""
    broker = await world.broker()
    await broker.answer(queue, respond)
    await broker.queues()


async def test_every_worker_of_the_queue_may_answer_and_enough_ends_the_waiting(world: World) -> None:
    asking = await world.broker()
    asked: list[bytes] = []
    for name in (b"one", b"two", b"three"):

        def respond(question: bytes, name: bytes = name) -> bytes:
            asked.append(question)
            return name

        await answering(world, respond)
    await answering(world, lambda _: b"of another queue", "other")

    assert sorted(await asking.ask(QUEUE, b"who?", 0.5)) == [b"one", b"three", b"two"]
    assert asked == [b"who?"] * 3
    assert sorted(await asking.ask(QUEUE, b"who?", 60, enough=3)) == [b"one", b"three", b"two"]
    (answer,) = await asking.ask(QUEUE, b"who?", 60, enough=1)
    assert answer in (b"one", b"two", b"three")


async def test_who_has_no_answer_gives_none_and_does_not_count(world: World) -> None:
    asking = await world.broker()
    await answering(world, lambda _: None)
    await answering(world, lambda question: b"me" if question == b"holder?" else None)

    assert await asking.ask(QUEUE, b"holder?", 60, enough=1) == [b"me"]
    assert await asking.ask(QUEUE, b"something else", 0.3) == []


async def test_with_nobody_to_answer_nobody_is_waited_for(world: World) -> None:
    asking, closed = await world.broker(), await world.broker()
    async with asyncio.timeout(10):
        assert await asking.ask(QUEUE, b"who?", 60) == []
    await closed.answer(QUEUE, lambda _: b"gone")
    await closed.close()
    for _ in range(3):  # the server may take a moment to notice, and holds the question for who is gone until then
        assert await asking.ask(QUEUE, b"who?", 0.3) == []
    async with asyncio.timeout(10):
        assert await asking.ask(QUEUE, b"who?", 60) == []

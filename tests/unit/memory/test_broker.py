"""What the memory broker has beyond the contract: its two kinds of time, and callers from other threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.model.job import Delivery, EnqueueReceipt, JobRecord
from jetq.model.result import ResultRecord

pytestmark = pytest.mark.anyio


def job(id: str) -> JobRecord:
    return JobRecord(id=id, task="tests.task", queue="q", body=b"{}")


async def test_what_falls_due_on_the_way_happens_in_order_and_at_its_time() -> None:
    clock = FakeClock(1000.0)
    broker = MemoryBroker(clock=clock)
    got: list[Delivery] = []
    (await broker.feed("q", got.append)).ask(10)
    for id, after in [("c", 30.0), ("a", 10.0), ("b", 20.0), ("d", 40.0)]:
        await broker.enqueue(job(id), due=1000.0 + after)

    clock.advance(39.9)
    await asyncio.sleep(0)

    first_run = [(each.id, each.stored_at) for each in got if each.count == 1]
    assert first_run == [("a", 1010.0), ("b", 1020.0), ("c", 1030.0)]
    assert clock.now() == 1039.9
    assert (await broker.queues())[0].scheduled == 1


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()
    start = clock.now()
    assert abs(start - time.time()) < 5
    broker = MemoryBroker(clock=clock)
    await broker.enqueue(job("a"), due=start + 0.001)

    await asyncio.sleep(0.01)

    assert clock.now() == start
    assert (await broker.queues())[0].scheduled == 1


async def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)


async def test_two_stores_on_one_clock_keep_one_order() -> None:
    clock = FakeClock(0.0)
    one, two = MemoryBroker(clock=clock), MemoryBroker(clock=clock)
    got: list[str] = []
    for broker in (one, two):
        (await broker.feed("q", lambda delivery: got.append(delivery.id))).ask(10)
    await one.enqueue(job("second"), due=2.0)
    await two.enqueue(job("first"), due=1.0)
    await two.enqueue(job("third"), due=3.0)

    clock.advance(5.0)
    await asyncio.sleep(0)

    assert got == ["first", "second", "third"]


async def test_an_id_is_recognised_while_its_job_stands() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    first = await broker.enqueue(job("same"))
    scheduled = await broker.enqueue(job("later"), due=clock.now() + 3600)

    clock.advance(1000)
    assert await broker.enqueue(job("same"), due=clock.now() + 60) == EnqueueReceipt(first.sequence, "same", "existing")
    assert await broker.enqueue(job("later")) == EnqueueReceipt(scheduled.sequence, "later", "existing")
    assert len(await broker.stored_jobs("q")) == 2


async def test_an_id_is_recognised_for_two_minutes_after_its_job_has_gone() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    stored = await broker.enqueue(job("same"))
    await broker.remove("q", stored.sequence)

    clock.advance(119.9)
    assert (await broker.enqueue(job("same"))).disposition == "existing"
    clock.advance(0.2)
    assert (await broker.enqueue(job("same"))).disposition == "new"


async def test_an_expired_result_takes_no_room() -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    record = ResultRecord(id="a", state="succeeded", task="t", queue="q", attempt=1, sequence=1, at=0.0)
    await broker.put_result(record, 60)
    await broker.put_result(record, 90)

    clock.advance(60)
    assert await broker.get_result("q", "a") is not None
    clock.advance(30)

    assert broker.store.results == {}


async def test_without_a_clock_real_time_counts() -> None:
    store = MemoryStore(lease=0.1)
    broker = MemoryBroker(store)
    got: list[tuple[str, int]] = []
    done = asyncio.Event()

    def deliver(delivery: Delivery) -> None:
        got.append((delivery.id, delivery.count))
        if delivery.count == 2:
            done.set()
        feed.ask(1)

    feed = await broker.feed("q", deliver)
    feed.ask(1)
    due = time.time() + 0.05
    await broker.enqueue(job("a"), due=due)

    await asyncio.wait_for(done.wait(), 10)

    assert time.time() >= due + 0.1
    assert got == [("a", 1), ("a", 2)]
    await broker.close()


async def test_what_another_thread_schedules_earlier_wakes_a_feed() -> None:
    store = MemoryStore()
    broker = MemoryBroker(store)
    arrived = asyncio.Event()
    (await broker.feed("q", lambda _: arrived.set())).ask(1)
    await broker.enqueue(job("late"), due=time.time() + 3600)

    await asyncio.to_thread(asyncio.run, _enqueue(store, job("soon"), time.time() + 0.05))

    await asyncio.wait_for(arrived.wait(), 10)
    await broker.close()


async def _enqueue(store: MemoryStore, job: JobRecord, due: float | None = None) -> None:
    await MemoryBroker(store).enqueue(job, due=due)


async def test_a_feed_whose_loop_has_ended_loses_nothing() -> None:
    store = MemoryStore()

    async def ask_and_end() -> None:
        (await MemoryBroker(store).feed("q", lambda _: None)).ask(5)

    await asyncio.to_thread(asyncio.run, ask_and_end())
    broker = MemoryBroker(store)
    got: list[Delivery] = []
    await broker.enqueue(job("a"))

    (await broker.feed("q", got.append)).ask(1)
    await asyncio.sleep(0)

    assert [(each.id, each.count) for each in got] == [("a", 1)]
    await broker.close()


async def test_many_threads_store_and_one_takes_them_all() -> None:
    store = MemoryStore()
    broker = MemoryBroker(store)
    got: list[str] = []
    done = asyncio.Event()

    def deliver(delivery: Delivery) -> None:
        broker.finish(delivery)
        got.append(delivery.id)
        if len(got) == 400:
            done.set()
        feed.ask(7)

    feed = await broker.feed("q", deliver)
    feed.ask(7)

    async def produce(part: int) -> None:
        producer = MemoryBroker(store)
        for number in range(100):
            await producer.enqueue(job(f"{part}-{number}"))

    threads = [threading.Thread(target=asyncio.run, args=(produce(part),)) for part in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.wait_for(done.wait(), 20)
    for thread in threads:
        thread.join()

    assert sorted(got) == sorted(f"{part}-{number}" for part in range(4) for number in range(100))
    assert store.stored_jobs() == []
    await broker.close()


async def test_who_waits_for_a_result_is_let_go_when_the_broker_closes() -> None:
    broker = MemoryBroker()
    waiting = asyncio.ensure_future(broker.wait_result("q", "a", 60))
    await asyncio.sleep(0)

    await broker.close()

    assert await asyncio.wait_for(waiting, 5) is None

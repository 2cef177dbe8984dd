"""Enqueueing on a real server: from threads, forks, loops in sequence and running loops, promptly and without leaks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from jetq import Jetq, JetqWarning
from jetq.errors import BrokerUnavailable, EnqueueError, NotSent, NotStored, PayloadTooLarge
from jetq.model.job import StoredJob
from jetq.model.queue_info import QueueInfo
from tests.apps.working import working
from tests.servers import NatsServerFactory


def record(n: int, text: str = "") -> int:
    return n


class Enqueuer:
    """An app in a namespace of its own, with a task, and a look at what is stored."""

    def __init__(self, url: str) -> None:
        self.app = Jetq(url, namespace=f"t{token_hex(4)}", publish_timeout=2, connect_timeout=2)
        self.record = self.app.task(name="record")(record)

    def queue(self) -> QueueInfo:
        async def look() -> QueueInfo:
            (info,) = await (await self.app.session.broker()).queues()
            return info

        return self.app.session.run(look)

    def find(self, id: str) -> StoredJob | None:
        async def look() -> StoredJob | None:
            return await (await self.app.session.broker()).find("default", id)

        return self.app.session.run(look)


@pytest.fixture
def enqueuer(nats_url: str) -> Iterator[Enqueuer]:
    enqueuer = Enqueuer(nats_url)
    yield enqueuer
    enqueuer.app.session.close()


def test_delay_returns_once_the_job_is_stored(enqueuer: Enqueuer) -> None:
    """Guarantee: `.delay` returns only after JetStream has stored the job."""
    job = enqueuer.record.delay(1, text="ü")
    found = enqueuer.find(job.id)
    assert found is not None
    assert (found.delivery.task, found.delivery.body) == ("record", '{"n":1,"text":"ü"}'.encode())
    assert dict(found.delivery.headers) == {"Nats-Msg-Id": job.id}
    assert job.status() == "queued"


def test_from_many_threads_over_one_connection(enqueuer: Enqueuer) -> None:
    def enqueue() -> None:
        for n in range(20):
            enqueuer.record.delay(n)

    threads = [threading.Thread(target=enqueue) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert enqueuer.queue().ready == 160
    assert [thread.name for thread in threading.enumerate()].count("jetq-session") == 1


def test_two_loops_in_sequence_end_promptly(enqueuer: Enqueuer) -> None:
    async def main() -> None:
        await asyncio.gather(*(enqueuer.record.adelay(n) for n in range(50)))

    for _ in range(2):
        began = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - began < 1.5  # a connection whose tasks were cancelled must not be waited for
    assert enqueuer.queue().ready == 100


@pytest.mark.anyio
async def test_delay_on_a_running_loop_works_and_warns(enqueuer: Enqueuer) -> None:
    with pytest.warns(JetqWarning, match="adelay") as warned:
        job = enqueuer.record.delay(1)
    assert warned[0].filename == __file__
    assert await job.astatus() == "queued"
    await enqueuer.app.session.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_parent_and_forked_children_enqueue_side_by_side(enqueuer: Enqueuer) -> None:
    enqueuer.record.delay(0)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for n in range(10):
                    enqueuer.record.delay(n)
                asyncio.run(enqueuer.record.adelay(10))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for n in range(10):
        enqueuer.record.delay(n)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert enqueuer.queue().ready == 1 + 3 * 11 + 10


def test_many_at_once(enqueuer: Enqueuer) -> None:
    jobs = enqueuer.record.delay_many(enqueuer.record.bind(n) for n in range(2500))
    assert len({job.id for job in jobs}) == 2500
    assert enqueuer.queue().ready == 2500


def test_one_too_large_among_many_is_named_and_the_others_are_stored(enqueuer: Enqueuer) -> None:
    calls = [enqueuer.record.options(id=f"job-{n}").bind(n, "x" * (2_000_000 if n == 3 else 1)) for n in range(6)]
    with pytest.raises(EnqueueError) as caught:
        enqueuer.record.delay_many(calls)
    assert caught.value.job_ids == ("job-3",)
    assert enqueuer.queue().ready == 5
    with pytest.raises(PayloadTooLarge):
        enqueuer.record.delay(1, "x" * 2_000_000)


def test_a_delayed_job_is_scheduled_for_its_time(enqueuer: Enqueuer) -> None:
    before = time.time()
    delayed = enqueuer.record.options(delay=timedelta(hours=1)).delay(1)
    dated = enqueuer.record.options(at=datetime(2035, 1, 1, tzinfo=UTC)).delay(1)
    past = enqueuer.record.options(at=datetime(2015, 1, 1, tzinfo=UTC)).delay(1)
    assert [delayed.status(), dated.status(), past.status()] == ["scheduled", "scheduled", "queued"]
    found = enqueuer.find(delayed.id)
    assert found is not None
    assert found.due is not None
    assert before + 3599 <= found.due <= time.time() + 3601
    assert (enqueuer.queue().scheduled, enqueuer.queue().ready) == (2, 1)


def test_the_same_id_is_stored_once(enqueuer: Enqueuer) -> None:
    once = enqueuer.record.options(id="order-1")
    assert [once.delay(1).disposition, once.delay(1).disposition] == ["new", "existing"]
    assert enqueuer.queue().ready == 1


def test_with_nothing_listening_it_raises_in_time() -> None:
    """Guarantee: otherwise it raises within its timeout, never hangs."""
    enqueuer = Enqueuer("nats://127.0.0.1:1")
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
            enqueuer.record.delay(1)
        assert time.monotonic() - began < 5
    enqueuer.app.session.close()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["delay", "delay_many", "adelay", "adelay_many"])
async def test_with_nothing_listening_the_traceback_is_short_and_of_one_error(way: str) -> None:
    enqueuer = Enqueuer("nats://127.0.0.1:1")
    task = enqueuer.record

    async def enqueue() -> None:
        if way == "adelay":
            await task.adelay(1)
        elif way == "adelay_many":
            await task.adelay_many([task.bind(1)])
        else:
            await asyncio.to_thread(lambda: task.delay(1) if way == "delay" else task.delay_many([task.bind(1)]))

    try:
        with pytest.raises(NotSent) as caught:
            await enqueue()
    finally:
        await enqueuer.app.session.aclose()
        await asyncio.to_thread(enqueuer.app.session.close)
    text = "".join(traceback.format_exception(caught.value))
    assert "During handling" not in text and "direct cause" not in text
    assert text.count("Traceback") == 1
    assert len(text.splitlines()) < 40


def test_a_server_that_stops_answering_raises_in_time_and_a_repeat_is_safe(nats_server: NatsServerFactory) -> None:
    """Guarantee: a job whose fate is unknown can be enqueued again with its id, and is stored once."""
    server = nats_server()
    enqueuer = Enqueuer(server.url)
    enqueuer.record.delay(0)
    server.pause()
    began = time.monotonic()
    with pytest.raises((NotStored, BrokerUnavailable)):
        enqueuer.record.options(id="unsure").delay(1)
    assert time.monotonic() - began < 8
    server.resume()
    for _ in range(3):
        enqueuer.record.options(id="unsure").delay(1)
    while (queue := enqueuer.queue()).ready < 2:  # a server that has just gone on counts what waits a moment late
        assert queue.ready + queue.scheduled == 2
    assert (queue.ready, queue.scheduled) == (2, 0)
    enqueuer.app.session.close()


@pytest.mark.anyio
async def test_tasks_enqueue_from_inside_sync_and_async(enqueuer: Enqueuer) -> None:
    app = enqueuer.app

    @app.task(name="from_thread")
    def from_thread(n: int) -> str:
        return enqueuer.record.delay(n).id

    @app.task(name="from_loop")
    async def from_loop(n: int) -> str:
        return (await enqueuer.record.adelay(n)).id

    async with working(app):
        for inner, n in [(await from_thread.adelay(3), 3), (await from_loop.adelay(4), 4)]:
            assert await app.job(await inner.aresult(timeout=10)).aresult(timeout=10) == n
    assert "jetq-session" in {thread.name for thread in threading.enumerate()}


PROGRAM = """
import asyncio, sys, threading
from jetq import Jetq, task
app = Jetq({url!r}, namespace={namespace!r})
@task(name="record")
def record(n: int) -> int: return n
record.delay(1)
asyncio.run(record.adelay(2))
thread = threading.Thread(target=record.delay, args=(3,)); thread.start(); thread.join()
loop = asyncio.new_event_loop()
loop.run_until_complete(record.adelay(4))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""


def test_a_program_ends_at_once_and_leaves_nothing_open(enqueuer: Enqueuer, nats_url: str) -> None:
    namespace = enqueuer.app.settings.namespace
    program = PROGRAM.format(url=nats_url, namespace=namespace)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 10
    assert enqueuer.queue().ready == 4

"""Many faults or many jobs at once: connections cut again and again, deliveries come back, a million jobs waiting."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CoroutineType

import pytest

from jetq import Jetq
from jetq.jetstream.transport.connection import Connection
from jetq.settings import Settings
from jetq.worker import eager_start
from tests.apps.harness import harness
from tests.apps.measure import open_files, resident
from tests.apps.wire import Wire, frame
from tests.apps.workers import WorkerProcess
from tests.apps.working import settled, until, working
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsCluster, NatsServerFactory

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
]

MEBIBYTE = 1024 * 1024


async def test_connections_reset_twice_a_second_stop_nothing_and_leave_nothing_behind(
    nats_server: NatsServerFactory,
) -> None:
    """Guarantee: however often connections break, work goes on, and no task, file or memory is left of those lost."""
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    workers, producers = Jetq(proxy.url, ack_wait=3.0), Jetq(server.url, ack_wait=3.0)
    ran: Counter[int] = Counter()

    @workers.task(name="count", queue="storm")
    async def count(n: int) -> int:
        ran[n] += 1
        return n

    async def storm(first: int, resets: int) -> int:
        """How many jobs were stored meanwhile."""
        n = first
        for _ in range(resets):
            until_reset = time.monotonic() + 0.5
            while time.monotonic() < until_reset:
                await producers.asend("count", {"n": n}, queue="storm")
                n += 1
                await asyncio.sleep(0.01)
            proxy.reset()
        return n

    async def calm(jobs: int) -> None:
        """Until these have run and no connection of the worker, its own and that of its leases, waits to be made."""
        await until(lambda: len(ran) == jobs, 30.0)
        await settled(producers)
        await until(lambda: proxy.connections == 2, 30.0)

    try:
        async with working(workers, concurrency=10):
            await calm(done := await storm(0, 6))
            tasks, files, memory = _tasks(), open_files(), resident()
            await calm(await storm(done, 20))
            await until(lambda: _tasks() - tasks == Counter(), 20.0)  # some only wait a moment for an answer
            await until(lambda: open_files() <= files + 2)
            gc.collect()
            assert resident() <= memory + 20 * MEBIBYTE
    finally:
        await producers.session.aclose()
        await proxy.stop()


def _tasks() -> Counter[str]:
    """How many of each kind run: not those of the proxy, and not the spare ones, of which there are 32 at most."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    running = [each for each in coroutines if isinstance(each, CoroutineType)]
    spare = eager_start.__file__
    return Counter(
        each.__qualname__
        for each in running
        if each.cr_code.co_filename != spare and not each.__qualname__.startswith(f"{Proxy.__name__}.")
    )


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_line_that_carries_one_way_only_is_left(nats_server: NatsServerFactory, way: str) -> None:
    """Guarantee: it is noticed within 16 s that one direction swallows everything, and the next line is used."""
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    connection = await Connection.open(Settings(servers=(proxy.url,), connect_timeout=1.0), name="test")
    try:
        lost, back = asyncio.Event(), asyncio.Event()
        connection.on_down(lost.set)
        connection.on_up(back.set)
        proxy.hold(up=way == "up", down=way == "down")
        async with asyncio.timeout(16.0):
            await lost.wait()
        proxy.heal()
        async with asyncio.timeout(10.0):
            await back.wait()
        await connection.ping(5.0)
    finally:
        await connection.close()
        await proxy.stop()


async def test_a_slow_and_thin_line_is_no_dead_one(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    connection = await Connection.open(Settings(servers=(proxy.url,)), name="test")
    try:
        lost: list[bool] = []
        connection.on_down(lambda: lost.append(True))
        got: list[bytes] = []
        subject = connection.new_inbox()
        await connection.subscribe(subject, lambda msg: got.append(msg.data))
        proxy.slow(delay=0.4)
        proxy.down.rate = 3_000
        connection.send(subject, bytes(50_000))  # comes back in 17 s, and the answers to pings behind it
        await until(lambda: got == [bytes(50_000)], 60.0)
        assert not lost
    finally:
        await connection.close()
        await proxy.stop()


async def test_two_thousand_deliveries_come_back_at_once_and_fresh_jobs_run_beside_them(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: a worker that dies with its hands full is made good within its lease and the time of what it held."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=3.0) as h:
        await h.send("sleeper", 2000, seconds=600.0)
        with WorkerProcess(server.url, h.ledger, ack_wait=3.0, concurrency=2000) as first:
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 2000, 60.0)
            first.kill()
        # The same jobs, short now: what comes back runs one after another, and each may take its time.
        env = {"JETQ_TEST_SHORT": "1"}
        with WorkerProcess(server.url, h.ledger, ack_wait=3.0, concurrency=100, env=env):
            await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= 1, 30.0)
            fresh = (await h.send("mark"))[0]
            await h.ledger.wait(lambda ledger: any(entry.id == fresh for entry in ledger.entries("mark")), 10.0)
            assert len(h.ledger.entries("finish")) < 2000, "there was no storm left when it ran"
            await h.until_done(120.0)
        assert h.ledger.count("finish") == {n: 1 for n in range(2000)}
        assert await h.dead() == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path / "nats", config='lame_duck_duration: "30s"\nlame_duck_grace_period: "0.5s"\n')
    yield cluster
    cluster.stop()


async def test_a_lame_duck_of_three_is_left_and_what_runs_is_not_handed_out_again(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    async with harness(",".join(cluster.urls), tmp_path, replicas=3, publish_timeout=40.0) as h:
        with WorkerProcess(",".join(cluster.urls), h.ledger, env={"JETQ_REPLICAS": "3"}, concurrency=20) as worker:
            await h.send("sleeper", 10, seconds=8.0)
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) == 10)
            duck = await asyncio.to_thread(cluster.leader, "LEDGER_JOBS")
            assert duck is not None
            os.kill(duck.pid, signal.SIGUSR2)
            for n in range(10, 110):
                await h.app.asend("tests.apps.ledger_tasks.quick", {"n": n}, queue="ledger")
            await h.until_done(90.0)
            assert worker.process.poll() is None
        assert h.ledger.count("start") == {n: 1 for n in range(110)}
        assert h.ledger.count("finish") == {n: 1 for n in range(110)}


@pytest.mark.slow
async def test_a_million_jobs_waiting_slow_nothing_down_and_take_no_memory(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: with a million jobs waiting a worker starts at once and takes no more memory, and they are counted at
    once."""
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        await h.send("mark", 1)
        with WorkerProcess(server.url, h.ledger) as worker:
            await h.until_done()
            empty = resident(worker.pid)
        await _backlog(server.url, 1_000_000)
        began = time.monotonic()
        assert (await h.info()).ready == 1_000_000
        assert time.monotonic() - began < 2.0
        with WorkerProcess(server.url, h.ledger) as worker:
            before = len(h.ledger.entries("mark"))
            await h.ledger.wait(lambda ledger: len(ledger.entries("mark")) > before, 15.0)
            # How fast it goes on is the server's matter: on a busy machine some hundred jobs a second, on an idle one
            # thousands (nats-server 2.15.1).
            await h.ledger.wait(lambda ledger: len(ledger.entries("mark")) > before + 2000, 60.0)
            assert resident(worker.pid) < empty + 50 * MEBIBYTE


async def _backlog(url: str, count: int) -> None:
    """Store so many jobs, as fast as the server takes them."""
    wire = await Wire.open(url)
    for first in range(0, count, 1000):
        subjects = [b"jetq.ledger.run.tests:apps:ledger_tasks:mark.-.b%07d" % n for n in range(first, first + 1000)]
        wire.write(b"".join(frame(subject, None, b'{"n":1}') for subject in subjects[:-1]))
        answer = await wire.store(subjects[-1], None, b'{"n":1}')
        assert answer.sequence, answer.why
    await wire.close()


@pytest.mark.slow
async def test_two_hundred_queues_of_one_worker_are_all_served(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    queues = [f"q{n}" for n in range(200)]
    app = Jetq(server.url)
    ran: Counter[str] = Counter()

    @app.task(name="count")
    async def count(queue: str) -> None:
        ran[queue] += 1

    began = time.monotonic()
    async with working(app, queues=queues, concurrency=20):
        for _ in range(3):
            for queue in queues:
                await app.asend("count", {"queue": queue}, queue=queue)
        await until(lambda: ran.total() == 600, 60.0)
        assert time.monotonic() - began < 60.0
    assert ran == {queue: 3 for queue in queues}

"""Three servers with replicated streams: their leader dies, pauses or moves, and all of them are killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jetq import Jetq, current_job
from tests.apps.harness import Harness, harness
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.apps.working import settled, working
from tests.servers import ELECTED_WITHIN, NatsCluster

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

STREAM = "LEDGER_JOBS"


def _urls(cluster: NatsCluster) -> str:
    return ",".join(cluster.urls)


def _worker(cluster: NatsCluster, h: Harness, **options: int | float) -> WorkerProcess:
    return WorkerProcess(_urls(cluster), h.ledger, env={"JETQ_REPLICAS": "3"}, **options)  # type: ignore[arg-type]


async def test_producers_ride_out_a_dead_leader_and_store_each_job_once(cluster: NatsCluster, tmp_path: Path) -> None:
    """Guarantee: `.delay` tries to its timeout under one id, so a leader's death costs no job and doubles none."""
    async with harness(_urls(cluster), tmp_path, replicas=3, publish_timeout=ELECTED_WITHIN) as h:
        stored: list[str] = []
        ending = False

        async def produce(first: int) -> None:
            n = first
            while not ending:
                job = await h.app.asend("tests.apps.ledger_tasks.quick", {"n": n}, queue="ledger")
                stored.append(job.id)
                n += 20

        producers = [asyncio.create_task(produce(n)) for n in range(20)]
        for _ in range(2):
            await asyncio.sleep(0.5)
            leader = await asyncio.to_thread(cluster.leader, STREAM)
            assert leader is not None
            before = len(stored)
            leader.kill()
            async with asyncio.timeout(ELECTED_WITHIN):
                while len(stored) < before + 100:
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(leader.start)
            await asyncio.to_thread(cluster.wait)
        ending = True
        await asyncio.gather(*producers)  # none has raised
        standing = [found.delivery.id for found in await h.broker.stored_jobs("ledger")]
        assert sorted(standing) == sorted(stored)


async def test_what_runs_is_not_handed_out_again_when_the_leader_dies(cluster: NatsCluster, tmp_path: Path) -> None:
    """Guarantee: replicated streams remember what was handed out; a killed single server forgets the last of it."""
    async with harness(_urls(cluster), tmp_path, replicas=3) as h, _workers(cluster, h, 2, concurrency=25):
        await h.send("sleeper", 100, seconds=3.0)
        for _ in range(2):
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 25)
            leader = await asyncio.to_thread(cluster.leader, STREAM)
            assert leader is not None
            leader.kill()
            await asyncio.sleep(2.0)
            await asyncio.to_thread(leader.start)
            await asyncio.to_thread(cluster.wait)
        await h.until_done(60.0)
        assert h.ledger.count("start") == {n: 1 for n in range(100)}
        assert h.ledger.count("finish") == {n: 1 for n in range(100)}


async def test_a_paused_leader_is_left_for_another_node(cluster: NatsCluster, tmp_path: Path) -> None:
    """Guarantee: silence is noticed within 15 s, and clients go to a node that lives.

    What a living consumer leader sends through the paused node meanwhile is with nobody until its lease ends.
    """
    lease = 15.0
    async with (
        harness(_urls(cluster), tmp_path, replicas=3, ack_wait=lease) as h,
        _workers(cluster, h, 1, ack_wait=lease),
    ):
        await h.send("quick", 10)
        await h.until_done()
        leader = await asyncio.to_thread(cluster.leader, STREAM)
        assert leader is not None
        leader.pause()
        try:
            paused = time.monotonic()
            job = None
            while job is None:
                assert time.monotonic() - paused < ELECTED_WITHIN, "no job could be stored"
                try:
                    job = await h.app.asend("tests.apps.ledger_tasks.quick", {"n": 10}, queue="ledger", id="after")
                except Exception:
                    await asyncio.sleep(0.1)
            await h.ledger.wait(lambda ledger: _finished(ledger, "after"), lease + 30.0)
            await h.app.asend("tests.apps.ledger_tasks.quick", {"n": 11}, queue="ledger", id="later")
            await h.ledger.wait(lambda ledger: _finished(ledger, "later"), lease)
        finally:
            leader.resume()
        assert h.ledger.count("finish") == {n: 1 for n in range(12)}


async def test_all_nodes_killed_at_once_lose_nothing(cluster: NatsCluster, tmp_path: Path) -> None:
    async with harness(_urls(cluster), tmp_path, replicas=3) as h, _workers(cluster, h, 2):
        producing = asyncio.create_task(_produce(h.app, 3000))
        await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= 200)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.wait)
        stored = await producing
        await h.until_done(60.0)
        assert stored <= {entry.id for entry in h.ledger.entries("finish")}
        assert len(stored) > 2000
        assert await h.dead() == []


async def test_due_times_and_retries_outlive_a_leader(cluster: NatsCluster, tmp_path: Path) -> None:
    """Guarantee: what waits for its time is stored like any job: fired once, and never early."""
    async with harness(_urls(cluster), tmp_path, replicas=3) as h, _workers(cluster, h, 2):
        due = time.time() + 6.0
        calls = [h.app.call("tests.apps.ledger_tasks.quick", {"n": n}, queue="ledger", delay=6.0) for n in range(500)]
        await h.app.adelay_many(calls)
        await h.send("second_time_lucky", 50)
        leader = await asyncio.to_thread(cluster.leader, STREAM)
        assert leader is not None
        leader.kill()
        await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) >= 550, 60.0)
        await asyncio.to_thread(leader.start)
        await h.until_done(60.0)
        finished = [entry for entry in h.ledger.entries("finish") if entry.attempt == 1]
        assert len(finished) == len({entry.id for entry in finished}) == 500
        assert min(entry.at for entry in finished) >= due - 0.001
        assert len([entry for entry in h.ledger.entries("finish") if entry.attempt == 2]) == 50


_LAGS_SEEN_IN = 5000
"""Jobs, of which a few were lost without this guarantee."""


async def test_a_job_that_the_leader_has_not_seen_yet_is_retried_all_the_same(cluster: NatsCluster) -> None:
    """Guarantee: a next attempt that is refused because the stream's leader lags behind is not lost.

    The consumer's leader, on another node, hands out what it has itself (nats-server 2.15.1).
    """
    app = Jetq(_urls(cluster), replicas=3)
    starts: Counter[int] = Counter()

    @app.task(name="twice", max_attempts=2, wait=0)
    async def twice(n: int) -> None:
        starts[n] += 1
        if current_job().attempt == 1:
            raise ConnectionError

    broker = await app.session.broker()
    await broker.setup("default")
    async with working(app):
        await _part_leaders(broker, "default")
        callers = asyncio.Semaphore(20)

        async def call(n: int) -> None:
            async with callers:
                await twice.adelay(n)
                await asyncio.sleep(0.01)  # no backlog: each job is handed out as it is stored

        await asyncio.gather(*(call(n) for n in range(_LAGS_SEEN_IN)))
        await settled(app, timeout=60)
    assert starts == {n: 2 for n in range(_LAGS_SEEN_IN)}


async def _part_leaders(broker: Any, queue: str) -> None:
    """Have the stream of the jobs and its consumer led by different nodes."""
    stream = broker.subjects.jobs(queue)
    consumer = broker.subjects.consumer(queue, "normal")
    async with asyncio.timeout(ELECTED_WITHIN):
        while True:
            info = await broker.api.stream_info(stream)
            leads = await broker.api.consumer_info(stream, consumer)
            if info and leads and info["cluster"]["leader"] != leads["cluster"]["leader"]:
                return
            await broker.api.request(f"CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}")
            await asyncio.sleep(0.5)


def _workers(cluster: NatsCluster, h: Harness, count: int, **options: int | float) -> _Fleet:
    return _Fleet([_worker(cluster, h, **options) for _ in range(count)])


class _Fleet:
    """Workers that are stopped in order at the end."""

    def __init__(self, workers: list[WorkerProcess]) -> None:
        self._workers = workers
        self._stack = ExitStack()

    async def __aenter__(self) -> list[WorkerProcess]:
        for worker in self._workers:
            self._stack.enter_context(worker)
        return self._workers

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                assert await asyncio.to_thread(worker.wait) == 0
        self._stack.__exit__(kind, error, None)


def _finished(ledger: Ledger, id: str) -> bool:
    return any(entry.id == id for entry in ledger.entries("finish"))


async def _produce(app: Jetq, count: int) -> set[str]:
    """The ids of those of `count` jobs that are surely stored."""
    stored: set[str] = set()

    async def produce(numbers: range) -> None:
        for n in numbers:
            for _ in range(3):
                try:
                    await app.asend("tests.apps.ledger_tasks.quick", {"n": n}, queue="ledger", id=f"all-{n}")
                except Exception:
                    continue  # nobody knows, or surely not: again under the same id
                stored.add(f"all-{n}")
                break

    await asyncio.gather(*(produce(range(place, count, 4)) for place in range(4)))
    return stored

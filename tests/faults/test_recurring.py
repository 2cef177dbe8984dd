"""A schedule of every second, while a worker is killed, and while the server is: each tick one job, none twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(200)]

LEASE = 3.0
SECONDS = 60


async def _start_beating(h: Harness) -> None:
    call = h.app.call("tests.apps.ledger_tasks.beat", {"n": 0}, queue=QUEUE)
    await h.app.aschedule("beat", call, cron="* * * * * *")


async def _stop_beating(h: Harness) -> None:
    await h.app.aunschedule("beat")
    await h.until_done()


async def test_a_killed_worker_costs_no_tick_and_doubles_none(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=LEASE) as h:
        with ExitStack() as stack:
            workers = [stack.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=LEASE)) for _ in range(3)]
            await _start_beating(h)
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 10)
            # Killed while it has a job: the one that started the last beat.
            last = h.ledger.entries("start")[-1].pid
            killed = next(worker for worker in workers if worker.pid == last)
            killed.kill()
            await h.ledger.wait(
                lambda ledger: len({each.nominal for each in ledger.entries("start")}) >= SECONDS, timeout=90
            )
            await _stop_beating(h)
            starts = h.ledger.entries("start")
    times = sorted({each.nominal for each in starts})
    assert times == list(range(times[0], times[0] + len(times)))
    assert len(times) >= SECONDS
    assert len({each.id for each in starts}) == len(times)
    again = Counter(each.id for each in starts if each.pid != last)
    assert set(again.values()) == {1}
    assert {each.nominal for each in h.ledger.entries("finish")} == set(times)


async def test_a_killed_server_costs_at_most_the_ticks_of_its_downtime(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=LEASE) as h:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(WorkerProcess(server.url, h.ledger, ack_wait=LEASE))
            await _start_beating(h)
            await h.ledger.wait(lambda ledger: len(ledger.entries("start")) >= 10)
            down = time.time()
            server.kill()
            await asyncio.sleep(5)
            server.start()
            up = time.time()
            await h.ledger.wait(
                lambda ledger: len([each for each in ledger.entries("start") if each.nominal > up + 3]) >= 15,
                timeout=60,
            )
            await _stop_beating(h)
            starts = h.ledger.entries("start")
    times = {each.nominal for each in starts}
    assert len({each.id for each in starts}) == len(times)
    missing = set(range(min(times), max(times) + 1)) - times
    assert missing, "five seconds without a server"
    # A tick whose answer the kill cut off is one of the downtime, and so is the second in which the server is back.
    assert min(missing) >= int(down) - 1
    assert max(missing) <= up + 2


async def test_ticks_that_waited_for_a_worker_all_become_jobs_when_three_start_at_once(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: of a dense schedule no tick is lost that is younger than a minute when workers are there again."""
    server = nats_server()
    async with harness(server.url, tmp_path) as h:
        call = h.app.call("tests.apps.ledger_tasks.beat", {"n": 0}, queue=QUEUE)
        await h.app.aschedule("beat", call, every=1)
        await h.until(lambda info: info.ready >= 42, timeout=90)
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(WorkerProcess(server.url, h.ledger))
            began = time.time()
            await h.ledger.wait(
                lambda ledger: any(each.nominal > began + 3 for each in ledger.entries("start")), timeout=60
            )
            await _stop_beating(h)
            starts = h.ledger.entries("start")
    times = sorted(each.nominal for each in starts)
    assert times == list(range(times[0], times[0] + len(times)))
    assert len(times) >= 42
    assert Counter(each.id for each in starts).most_common(1)[0][1] == 1

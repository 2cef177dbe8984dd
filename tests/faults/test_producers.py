"""Producers through 10 s without a server: a job is stored or its producer is told that it is not; none runs twice."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jetq import Jetq
from jetq.errors import BrokerUnavailable, NotStored, Rejected
from tests.apps.harness import QUEUE, harness
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

TASK = "tests.apps.ledger_tasks.quick"
AWAY = 10.0


@dataclass
class _Fates:
    """What producers were told, by job id. Each id is written by one producer."""

    stored: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    odd: list[BaseException] = field(default_factory=list)

    def failed(self, id: str, error: Exception) -> None:
        match error:
            case NotStored():
                self.unknown.add(id)
            case Rejected() | BrokerUnavailable():
                self.refused.add(id)
            case _:
                self.odd.append(error)

    def repeats(self, id: str) -> None:
        """It will be tried until it is stored."""
        self.refused.discard(id)
        self.unknown.discard(id)
        self.repeated.add(id)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_every_enqueue_is_stored_or_raises_and_repeats_run_once(
    how: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: `.delay` returns when the job is stored and raises a typed error otherwise, also with no server."""
    server = nats_server()
    fates, ending, numbers = _Fates(), threading.Event(), itertools.count()
    async with harness(server.url, tmp_path, publish_timeout=3.0, connect_timeout=2.0) as h:
        threads = [
            threading.Thread(target=_produce, args=(h.app, f"sync{place}", fates, ending, numbers, place % 2 == 0))
            for place in range(4)
        ]
        with WorkerProcess(server.url, h.ledger) as worker:
            for thread in threads:
                thread.start()
            producing = [
                asyncio.create_task(_aproduce(h.app, f"async{place}", fates, ending, numbers, place % 2 == 0))
                for place in range(6)
            ]
            try:
                await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) > 300)
                await asyncio.to_thread(getattr(server, how))
                await asyncio.sleep(AWAY)
                before = len(h.ledger.entries("finish"))
                await asyncio.to_thread(server.start)
                await h.ledger.wait(lambda ledger: len(ledger.entries("finish")) > before + 300)
            finally:
                ending.set()
            await asyncio.wait_for(asyncio.gather(*producing), 30.0)  # no call hangs
            for thread in threads:
                await asyncio.to_thread(thread.join, 30.0)
                assert not thread.is_alive()
            await h.until_done()
            worker.stop()
            assert await asyncio.to_thread(worker.wait) == 0
        runs = {entry.id: 0 for entry in h.ledger.entries("finish")}
        for entry in h.ledger.entries("finish"):
            runs[entry.id] += 1

    assert fates.odd == []
    assert fates.repeated and fates.refused | fates.unknown, "the server was not missed"
    assert fates.stored - runs.keys() == set()
    assert runs.keys() & fates.refused == set()
    assert runs.keys() - fates.stored <= fates.unknown
    assert {id: count for id, count in runs.items() if count > 1} == {}


def _ids(name: str) -> Iterator[str]:
    return (f"{name}-{count}" for count in itertools.count())


def _produce(
    app: Jetq, name: str, fates: _Fates, ending: threading.Event, numbers: Iterator[int], stubborn: bool
) -> None:
    for id in _ids(name):
        while True:
            try:
                app.send(TASK, {"n": next(numbers)}, queue=QUEUE, id=id)
            except Exception as error:
                fates.failed(id, error)
                if not stubborn or fates.odd:
                    break
                fates.repeats(id)
            else:
                fates.stored.add(id)
                break
        if ending.wait(0.01):
            return


async def _aproduce(
    app: Jetq, name: str, fates: _Fates, ending: threading.Event, numbers: Iterator[int], stubborn: bool
) -> None:
    for id in _ids(name):
        while True:
            try:
                await app.asend(TASK, {"n": next(numbers)}, queue=QUEUE, id=id)
            except Exception as error:
                fates.failed(id, error)
                if not stubborn or fates.odd:
                    break
                fates.repeats(id)
            else:
                fates.stored.add(id)
                break
        if ending.is_set():
            return
        await asyncio.sleep(0.01)

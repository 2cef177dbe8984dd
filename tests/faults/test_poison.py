"""Jobs that kill their worker, and the jobs beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.apps.harness import Harness, harness
from tests.apps.staying import let_pass
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

LEDGER = "tests.apps.ledger_tasks"


async def _keep_a_worker_alive(h: Harness, until: asyncio.Event, modules: str = LEDGER, concurrency: int = 30) -> int:
    """Start a worker again each time it dies, as an init system would; how many died."""
    deaths = 0
    while not until.is_set():
        with WorkerProcess(h.url, h.ledger, concurrency=concurrency, ack_wait=1.5, modules=modules) as worker:
            while worker.process.poll() is None and not until.is_set():
                await asyncio.sleep(0.02)
            deaths += worker.process.poll() is not None
    return deaths


async def _work_off(h: Harness, *, workers: int = 1, concurrency: int = 30, timeout: float = 120.0) -> int:
    """Have the queue emptied by workers that are started again; how many died."""
    done = asyncio.Event()
    alive = [
        asyncio.create_task(_keep_a_worker_alive(h, done, "tests.apps.poison_tasks", concurrency))
        for _ in range(workers)
    ]
    try:
        await h.until_done(timeout=timeout)
    finally:
        done.set()
        deaths = await asyncio.gather(*alive)
    return sum(deaths)


async def _send(h: Harness, task: str, *arguments: Mapping[str, object], expires: float | None = None) -> list[str]:
    name = f"tests.apps.poison_tasks.{task}"
    calls = [h.app.call(name, each, queue="ledger", expires=expires) for each in arguments]
    return [job.id for job in await h.app.adelay_many(calls)]


async def test_a_killer_is_dead_after_max_crashes_and_its_neighbours_are_not_charged(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        (killer,) = await h.send("killer")
        await h.send("sleeper", 20, seconds=1.0)
        done = asyncio.Event()
        workers = asyncio.create_task(_keep_a_worker_alive(h, done))
        try:
            await h.until_done(timeout=60)
        finally:
            done.set()
        assert await workers == 3

        (entry,) = await h.dead()
        assert (entry.letter.id, entry.letter.reason) == (killer, "crashed")
        starts = [entry for entry in h.ledger.entries("start") if entry.id == killer]
        assert len(starts) == 3
        finished = [entry for entry in h.ledger.entries("finish")]
        assert {entry.n for entry in finished} == set(range(20))
        assert {entry.attempt for entry in finished} == {1}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("index", {"document": {"n": 0, "text": "poison"}}),
        ("index", {"document": {"n": 0, "text": "sealed"}}),
        ("file", {"document": {"n": 0, "text": "poison"}}),
        ("file", {"document": {"n": 0, "text": "key"}}),
        ("crunch", {"document": {"n": 0}}),
        ("end", {"n": 0, "seconds": 0.0}),
        ("expired", {"document": {"n": 0}}),
        ("nobodys", {}),
    ],
    ids=[
        "decoded",
        "opened",
        "decoded for its limit",
        "asked for its limit",
        "in a thread",
        "at once",
        "expired",
        "expired, of a task its worker lacks",
    ],
)
async def test_a_killer_is_charged_wherever_it_kills(
    nats_server: NatsServerFactory, tmp_path: Path, task: str, arguments: dict[str, object]
) -> None:
    """Guarantee: nothing of the user's runs for a redelivered job before its start is on record: an argument's own
    type, the payload codec, `limit_per`, and `on_expired` are charged to their job as its function is."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        await _send(h, "innocent", *({"n": n, "seconds": 0.5} for n in range(1, 4)))
        expires = 0.05 if task in ("expired", "nobodys") else None
        (killer,) = await _send(h, "index" if task == "expired" else task, arguments, expires=expires)
        await let_pass(expires or 0.0)
        assert await _work_off(h) == 3
        (entry,) = await h.dead()
        assert (entry.letter.id, entry.letter.reason) == (killer, "crashed")
        assert h.ledger.count("kill") == {0: 3}
        assert h.ledger.count("finish") == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize(("workers", "concurrency"), [(1, 2), (2, 3)])
async def test_many_killers_charge_nobody_else(
    nats_server: NatsServerFactory, tmp_path: Path, workers: int, concurrency: int
) -> None:
    """Guarantee: the start that would be a suspect's last runs alone in its process, so that fresh killers beside it do
    not make it dead."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        await _send(h, "innocent", *({"n": n, "seconds": 1.0} for n in range(100, 103)))
        killers = await _send(h, "end", *({"n": n, "seconds": 0.1 * (n % 3)} for n in range(6)))
        await _work_off(h, workers=workers, concurrency=concurrency, timeout=240)
        assert {entry.letter.id for entry in await h.dead()} == set(killers)
        assert set(h.ledger.count("finish")) == {100, 101, 102}
        kills = h.ledger.count("kill")  # of three starts; those that another one ended are not among them
        assert set(kills) == set(range(6)) and max(kills.values()) <= 3


async def test_who_may_be_started_once_is_started_once_and_charges_nobody(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: with max_crashes=1 a job that kills its worker is started once, and one beside it is not dead."""
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.5) as h:
        await _send(h, "innocent_once", *({"n": n, "seconds": 0.3} for n in range(100, 103)))
        killers = await _send(h, "end_once", *({"n": n, "seconds": 0.1} for n in range(2)))
        await _send(h, "innocent", *({"n": n, "seconds": 0.3} for n in range(103, 106)))
        assert await _work_off(h) == 2
        assert {entry.letter.id for entry in await h.dead()} == set(killers)
        assert h.ledger.count("kill") == {0: 1, 1: 1}
        assert h.ledger.count("finish") == {n: 1 for n in range(100, 106)}

"""Workflows of every kind of edge, whose worker or creator is killed before and after each call it makes to the broker:
each ends with its value, none begins early, and nothing is stored twice.

As in `test_crash_sweep.py` the kill points are not listed here: a first run counts them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jetq.client.app import replaced_default
from jetq.encoding.sealer import Sealer
from jetq.model.workflows import names
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.handling import status, wait_for_value
from tests.apps.flow_tasks import WORKS, Expected
from tests.apps.forgetting import SUSPECTS_SOON, forget_soon
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.sweeping import SWEEPS_ALL
from tests.apps.workers import ROOT, WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

MODULE = "tests.apps.flow_tasks"
ID = "flow"
SWEPT = ("columns", "unknown", "pages", "window", "settled", "failing")
"""Works of every kind of edge and of end. The others take the same steps: `JETQ_TEST_SWEEP=all` sweeps these too."""

FORGOTTEN = ("columns", "failing")
"""Those of them that are swept on a server that soon forgets what was stored."""

AT_ONCE = 3
"""Kill points that are tried side by side, each in a namespace of its own."""


def _env(h: Harness, more: dict[str, str]) -> dict[str, str]:
    return {"JETQ_NAMESPACE": h.app.settings.namespace, **more}


def _worker(h: Harness, env: dict[str, str], *, concurrency: int = 1) -> WorkerProcess:
    return WorkerProcess(h.url, h.ledger, ack_wait=1.0, concurrency=concurrency, env=_env(h, env), modules=MODULE)


async def _is_over(h: Harness, expected: Expected) -> bool:
    """Whether all has ended, and only the watch is left in the queue."""
    if any(job.delivery.task != WATCH for job in await h.broker.stored_jobs(QUEUE)):
        return False
    return await status(h.broker, Sealer(None), ID) == expected.state and all(_ran(h)[run] for run in expected.runs)


def _ran(h: Harness) -> Counter[tuple[str, int]]:
    return Counter((entry.event, entry.n) for entry in h.ledger.entries())


async def _until_over(h: Harness, expected: Expected, worker: WorkerProcess, timeout: float) -> bool:
    """Until all has ended; see `_until`."""
    return await _until(lambda: _is_over(h, expected), worker, h, timeout)


async def _until(holds: Callable[[], Awaitable[bool]], worker: WorkerProcess, h: Harness, timeout: float) -> bool:
    """Until that holds, and return True; or until the worker has died, and return False."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                if worker.process.poll() is not None:
                    return False
                if await holds():
                    return True
                await asyncio.sleep(0.05)
    except TimeoutError:
        jobs = [(job.delivery.id, job.state) for job in await h.broker.stored_jobs(QUEUE)]
        entries = (await h.broker.standing_entries("flow.>")).names
        raise AssertionError(f"not over after {timeout:g} s: {_ran(h)}, jobs {jobs}, ledger {entries}") from None


async def _run(
    h: Harness, expected: Expected, env: dict[str, str], *, always: dict[str, str] | None = None, within: float = 20.0
) -> list[WorkerProcess]:
    """One worker with `env`, and another after it if it died, until all has ended. The workers that ran. always: what
    the environments of both say."""
    with _worker(h, (always or {}) | env) as worker:
        if await _until_over(h, expected, worker, 60.0):
            return [worker]
    with _worker(h, always or {}) as second:
        assert await _until_over(h, expected, second, within)
    return [worker, second]


async def _check(h: Harness, expected: Expected, workers: list[WorkerProcess], where: str) -> None:
    ran = _ran(h)
    assert set(ran) == set(expected.runs), where
    jobs = Counter(entry.id for entry in h.ledger.entries())
    assert len(jobs) == sum(expected.runs.values()), (where, jobs)
    # A kill may repeat a run of each job that has ended and not left its mark: a mark on its way holds no slot.
    assert max(jobs.values()) <= len(workers), (where, jobs)
    # One that did leave its mark runs no more: who died has run it, or who came after.
    assert max(Counter((entry.id, entry.pid) for entry in h.ledger.entries()).values()) == 1, (where, jobs)
    order = [(entry.event, entry.n) for entry in h.ledger.entries()]
    first = next((place for place, (event, _) in enumerate(order) if event in expected.after), len(order))
    needed = {run for run in expected.runs if run[0] not in expected.after}
    assert needed <= set(order[:first]), (where, order)
    assert len({entry.letter.id for entry in await h.dead()}) == len(await h.dead()) == expected.letters, where
    if expected.state == "succeeded":
        value = await wait_for_value(h.broker, Sealer(None), ID, 1.0)
        assert value == _json(expected.value), where
    for worker in workers:
        log = worker.log.read_text()
        assert " waits: " not in log, (where, log)  # a member began before a value that it takes was there
        assert "could not be settled" not in log, (where, log)  # a fault of jetq's own
        assert "could not be handled" not in log, (where, log)


def _json(value: object) -> bytes:
    return str(value).replace(" ", "").encode()


async def _store(h: Harness, expected: Expected, one_by_one: asyncio.Lock) -> None:
    async with one_by_one:
        with replaced_default(h.app):
            await expected.work().adelay(id=ID)


async def _at_each(number: int, url: str, directory: Path, once: Callable[[Harness, int], Awaitable[None]]) -> None:
    """Do `once` for each kill point from 1 to `number`, some side by side, each in a namespace of its own."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def point(at: int) -> None:
        async with gate:
            own = directory / f"point-{at}"
            own.mkdir()
            async with harness(url, own, ack_wait=1.0, namespace=f"n{at}") as h:
                await once(h, at)

    async with asyncio.TaskGroup() as points:
        for at in range(1, number + 1):
            points.create_task(point(at))


@pytest.mark.parametrize("name", WORKS if SWEEPS_ALL else SWEPT)
async def test_a_worker_killed_at_any_step_loses_nothing_and_doubles_nothing(
    name: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Within the leases: the watch, whose first turn is later, has no part in it."""
    await _sweep_worker(WORKS[name], nats_server().url, tmp_path)


@pytest.mark.parametrize("name", WORKS if SWEEPS_ALL else FORGOTTEN)
async def test_nor_does_it_on_a_server_that_has_forgotten_what_was_stored_before(
    name: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """What is stored again after the death is stored twice, and finds that it has ended."""
    await _sweep_worker(WORKS[name], nats_server().url, tmp_path, forgets=True)


async def _sweep_worker(expected: Expected, url: str, directory: Path, *, forgets: bool = False) -> None:
    calls, one_by_one = directory / "calls", asyncio.Lock()
    suspects = SUSPECTS_SOON if forgets else {}

    async def run(h: Harness, more: dict[str, str], where: str) -> None:
        if forgets:
            await forget_soon(h.broker)
        await _store(h, expected, one_by_one)
        await _check(h, expected, await _run(h, expected, more, always=suspects), where)

    async with harness(url, directory, ack_wait=1.0, namespace="first") as h:
        await run(h, {"JETQ_TEST_CALLS": str(calls)}, "not killed")
    points = [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]
    assert len(points) >= 4 * len(expected.runs)

    async def once(h: Harness, at: int) -> None:
        await run(h, {"JETQ_TEST_KILL_AT": str(at)}, f"killed {points[at - 1]}, call {at}")

    await _at_each(len(points), url, directory, once)


TURN = 1.0
"""Seconds between turns of the watch, where the watch has a part in what is tested."""


@pytest.mark.parametrize("name", ["chord", "list", "failing"])
async def test_a_watch_killed_at_any_step_leaves_nothing_of_a_workflow_that_is_over(
    name: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    expected, server, calls, one_by_one = WORKS[name], nats_server(), tmp_path / "calls", asyncio.Lock()
    watched = {"JETQ_TEST_WATCH": str(TURN)}
    async with harness(server.url, tmp_path, ack_wait=1.0, namespace="first") as h:
        await _ended(h, expected, one_by_one)
        with _worker(h, {**watched, "JETQ_TEST_CALLS": str(calls)}) as worker:
            assert await _until_closed(h, expected, worker)
    points = [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]
    assert len(points) >= 4

    async def once(h: Harness, at: int) -> None:
        await _ended(h, expected, one_by_one)
        before = h.ledger.size()
        with _worker(h, {**watched, "JETQ_TEST_KILL_AT": str(at)}) as worker:
            over = await _until_closed(h, expected, worker)
        if not over:
            with _worker(h, watched) as worker:
                assert await _until_closed(h, expected, worker)
        assert h.ledger.size() == before, points[at - 1]  # nothing ran again
        if expected.state == "succeeded":
            assert await wait_for_value(h.broker, Sealer(None), ID, 1.0) == _json(expected.value), points[at - 1]

    await _at_each(len(points), server.url, tmp_path, once)


async def _ended(h: Harness, expected: Expected, one_by_one: asyncio.Lock) -> None:
    """Store the workflow and run it; then the turn of its watch has come."""
    await _store(h, expected, one_by_one)
    with _worker(h, {}, concurrency=10) as worker:
        assert await _until_over(h, expected, worker, 20.0)
        worker.stop()
        worker.wait()
    (watch,) = await h.broker.stored_jobs(QUEUE)
    assert await h.broker.release(watch)


async def _until_closed(h: Harness, expected: Expected, worker: WorkerProcess) -> bool:
    """Until the watch has closed the workflow, or waits for the time of a retry; or the worker has died."""
    return await _until(lambda: _is_closed(h, expected), worker, h, 20.0)


async def _is_closed(h: Harness, expected: Expected) -> bool:
    jobs = await h.broker.stored_jobs(QUEUE)
    if expected.state == "failed":
        return len(jobs) == 1 and jobs[0].due is not None and jobs[0].due > time.time() + 3_600
    return not jobs and await _is_clear(h)


async def _is_clear(h: Harness) -> bool:
    """Whether no record of any workflow is left but plans."""
    return not (await h.broker.standing_entries("flow.>")).names


@pytest.mark.parametrize("name", ["chain", "pages", "unknown"])
async def test_a_creator_killed_at_any_step_leaves_a_workflow_that_runs_or_nothing(
    name: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    expected, server, calls = WORKS[name], nats_server(), tmp_path / "calls"
    async with harness(server.url, tmp_path, ack_wait=1.0, namespace="first") as h:
        assert await _produce(h, name, {"JETQ_TEST_CALLS": str(calls)}) == 0
    points = [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]
    stood: dict[int, bool] = {}

    async def once(h: Harness, at: int) -> None:
        where = f"killed {points[at - 1]}, call {at}"
        assert await _produce(h, name, {"JETQ_TEST_KILL_AT": str(at)}) == -signal.SIGKILL, where
        stands = stood[at] = await h.broker.read_entry(names.plans(ID), surely=True) is not None
        with _worker(h, {"JETQ_TEST_WATCH": str(TURN)}, concurrency=3) as worker:
            assert await _until(lambda: _is_clear_of_all(h), worker, h, 20.0)
        if stands:
            assert await wait_for_value(h.broker, Sealer(None), ID, 1.0) == _json(expected.value), where
            assert _ran(h) == Counter(expected.runs), where
        else:
            assert not _ran(h), where

    await _at_each(len(points), server.url, tmp_path, once)
    assert [stood[at] for at in sorted(stood)] == sorted(stood.values())  # from one point on, and not before
    assert set(stood.values()) == {False, True}


async def _is_clear_of_all(h: Harness) -> bool:
    return not await h.broker.stored_jobs(QUEUE) and await _is_clear(h)


async def _produce(h: Harness, name: str, env: dict[str, str]) -> int:
    """Store a work in a process of its own, and return the exit code of that."""
    own = {"JETQ_SERVERS": h.url, "JETQ_TEST_WATCH": str(TURN), "PYTHONPATH": str(ROOT), **_env(h, env)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.apps.flow_producer", name, ID, env=os.environ | own, cwd=h.ledger.path.parent
    )
    return await process.wait()

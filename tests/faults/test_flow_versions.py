"""Workflows beside workers and a command line of the release before, as while a new one is rolled out and taken
back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from jetq.client.app import replaced_default
from jetq.encoding.headers import OFF_HEADER
from jetq.encoding.sealer import Sealer
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.handling import open_life, status
from tests.apps.flow_load import Load
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.older import OLD, path_of, run_python
from tests.apps.step_tasks import double, picky
from tests.apps.sweeping import SWEEPS_ALL
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

WORKFLOWS, FAILING = (150, 20) if SWEEPS_ALL else (20, 5)
"""Workflows that are stored while both releases work, and again while only the older one does; and those that fail."""

ENDED_WITHIN = 240.0
"""Seconds. An older worker puts off what it cannot read, by 5 s and then by twice as long each time, up to 60 s."""


@pytest.mark.parametrize("old", [OLD["before-packages"]], ids=["before-packages"], indirect=True)
async def test_workflows_end_as_they_should_beside_the_release_before(
    old: Path, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Guarantee: an older worker puts off what belongs to a workflow, whatever it is handed, and drops nothing of it;
    an older command line replays no letter of a member. What waits for the newer release is over once that is back."""
    async with harness(nats_server().url, tmp_path) as h:
        load = Load(h)
        with ExitStack() as stack:
            older = [_worker(h, stack, path_of(old)) for _ in range(2)]
            newer = [_worker(h, stack) for _ in range(2)]
            failing = await _store_failing(h)
            await _store(load, WORKFLOWS)
            await load.until_ended(ENDED_WITHIN)
            await _check_letters(h, failing)

            arguments = ("-m", "jetq", "dlq", "replay", "--all", "-q", QUEUE)
            refused = await run_python(h, path_of(old), *arguments, code=1)
            assert refused.startswith("error: not replayed, because a newer jetq has written it: ")
            await _check_letters(h, failing)

            await _end(newer)
            ran = len(h.ledger.entries())
            await _store(load, WORKFLOWS)
            await _until_all_put_off(h)
            assert len(h.ledger.entries()) == ran
            assert [await status(h.broker, Sealer(None), id) for id in load.ids[-5:]] == ["running"] * 5

            newer = [_worker(h, stack) for _ in range(2)]
            await _end(older)
            await load.until_ended(ENDED_WITHIN)
            await load.check(others=failing)
            await _check_letters(h, failing)
            assert h.ledger.count("picky") == {1: FAILING}
            await _end(newer)


def _worker(h: Harness, stack: ExitStack, path: str | None = None) -> WorkerProcess:
    env = {} if path is None else {"PYTHONPATH": path}
    return stack.enter_context(WorkerProcess(h.url, h.ledger, modules="tests.apps.step_tasks", env=env))


async def _end(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        worker.stop()
    for worker in workers:
        assert await asyncio.to_thread(worker.wait, 60.0) == 0


async def _store_failing(h: Harness) -> set[str]:
    """Store workflows that fail, and return their lives."""
    lives = set[str]()
    with replaced_default(h.app):
        for _ in range(FAILING):
            flow = await (picky.bind(1) | double).adelay()
            _, found = await open_life(h.broker, Sealer(None), flow.id)
            lives.add(found.life)
    return lives


async def _store(load: Load, count: int) -> None:
    """Store `count` more workflows, or some more than that."""
    storing, enough = asyncio.create_task(load.store()), load.stored + count
    async with asyncio.timeout(60.0):
        while load.stored < enough:
            await asyncio.sleep(0.02)
    load.end()
    await storing


async def _until_all_put_off(h: Harness) -> None:
    """Until an older worker has put off each job that is stored, but for those that are not due."""
    async with asyncio.timeout(ENDED_WITHIN):
        while True:
            jobs = [job for job in await h.broker.stored_jobs(QUEUE) if job.delivery.task != WATCH]
            if all(OFF_HEADER in job.delivery.headers for job in jobs):
                return
            await asyncio.sleep(0.1)


async def _check_letters(h: Harness, failing: set[str]) -> None:
    letters = [each.letter for each in await h.dead()]
    assert {letter.id.partition(":")[0] for letter in letters} == failing
    assert {(letter.reason, letter.failure.type) for letter in letters} == {("failed", "builtins.ValueError")}

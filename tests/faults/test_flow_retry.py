"""The morning after: a branch of an ETL has failed in the night, its code is mended, and an operator takes it up."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from jetq import TaskFailed, Work, group
from jetq.client.app import replaced_default
from jetq.client.workflows.workflow import Workflow
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.program_tasks import BRANCHES, BROKEN, close_books, extract, publish, tell, transform
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

C = BRANCHES.index("c")
WITHIN = 60.0
"""Seconds."""


def etl() -> Work[str]:
    branches = [(extract.bind(each) | transform).named(f"transform-{each}") for each in BRANCHES]
    return (group(branches) | publish).on_failure(tell.bind(0)).finally_(close_books.bind(0))


@pytest.mark.parametrize("expires", [3_600.0, 5.0], ids=["in time", "after the deadline"])
async def test_only_the_branch_that_failed_runs_again_on_the_mended_code(
    expires: float, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    async with harness(nats_server().url, tmp_path) as h:
        with replaced_default(h.app):
            flow = await etl().adelay(id="etl", expires=expires)
        with _worker(h, broken="c"):
            await _until_failed(h, flow, times=1)
            assert h.ledger.count("transform") == dict.fromkeys(range(len(BRANCHES)), 1)
        await _pass_deadline(h, expires)
        with _worker(h, broken="c"):  # somebody is too early
            assert await flow.aretry(step="transform-c", expires=3_600) == 1
            await _until_failed(h, flow, times=2)
        with _worker(h):
            assert await flow.aretry(step="transform-c", expires=3_600) == 1
            assert await flow.aresult(WITHIN) == BRANCHES.upper()
            await h.ledger.wait(lambda ledger: ledger.count("close_books")[0] == 3)
            assert await flow.aretry(step="transform-c", expires=3_600) == 0
            await _until_quiet(h)
        every = Counter(range(len(BRANCHES)))
        assert h.ledger.count("extract") == every
        assert h.ledger.count("transform") == every + Counter({C: 2})
        assert (h.ledger.count("publish"), h.ledger.count("tell")) == ({len(BRANCHES): 1}, {0: 2})
        assert h.ledger.count("close_books") == {0: 3}  # at each end
        assert not await h.dead()


def _worker(h: Harness, *, broken: str = "") -> WorkerProcess:
    return WorkerProcess(h.url, h.ledger, env={BROKEN: broken}, modules="tests.apps.program_tasks")


async def _until_failed(h: Harness, flow: Workflow[str], *, times: int) -> None:
    """Until it has failed so many times, has called back, and nothing of it is left to run."""
    await h.ledger.wait(lambda ledger: ledger.count("tell")[0] == ledger.count("close_books")[0] == times)
    await _until_quiet(h)
    assert await flow.astatus() == "failed"
    with pytest.raises(TaskFailed, match=r"step transform-c: .*branch c has a row without a date"):
        await flow.aresult(WITHIN)
    steps = await flow.asteps()
    assert [name for name, step in steps.items() if step.state == "failed"] == ["transform-c"]
    assert (steps["transform-c"].failures[0].step, steps["publish"].state) == ("transform-c", "waiting")


async def _until_quiet(h: Harness) -> None:
    """Until no job is left but the watch."""
    async with asyncio.timeout(WITHIN):
        while any(job.due is None for job in await h.broker.stored_jobs(QUEUE)):
            await asyncio.sleep(0.02)


async def _pass_deadline(h: Harness, expires: float) -> None:
    deadline = h.broker.now() + min(expires, 60.0)
    async with asyncio.timeout(120):
        while expires < 60 and h.broker.now() <= deadline:
            await asyncio.sleep(0.1)

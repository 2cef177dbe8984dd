"""An import is watched and cancelled by another process, while a worker is cut off from everything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from jetq import Work, each
from jetq.client.app import replaced_default
from jetq.client.workflows.workflow import Workflow
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.program_tasks import clean_up, count, row
from tests.apps.staying import let_pass
from tests.apps.sweeping import SWEEPS_ALL
from tests.apps.workers import ROOT, WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(360 if SWEEPS_ALL else 180)]

ROWS = 5_000 if SWEEPS_ALL else 2_000
CUT_OFF = 90.0 if SWEEPS_ALL else 20.0
"""Seconds for which a worker is stopped."""

LEASE = 5.0
"""Seconds."""

TURN = 5.0
"""Seconds after which the watch looks whether all has been called back, and clears up: while the worker is stopped."""

WITHIN = 60.0
"""Seconds."""


def import_of(rows: int) -> Work[int]:
    return (each(row, range(rows)) | count).finally_(clean_up.bind())


async def test_nothing_of_a_cancelled_import_begins_also_on_a_worker_that_was_cut_off(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    async with harness(nats_server().url, tmp_path, ack_wait=LEASE) as h:
        with _worker(h), _worker(h) as second, _worker(h) as cut_off, replaced_default(h.app):
            await _until_each_works(h, second, cut_off)
            async with _button(h, ROWS * 2 // 5) as pressed:
                flow = await import_of(ROWS).adelay(id="import")
                await h.ledger.wait(lambda ledger: len(ledger.entries("row-done")) > ROWS // 4, WITHIN)
                with _stopped(cut_off):
                    told, cancelled_at = await pressed
                    await let_pass(CUT_OFF)
                    await _until_empty(h)
                    steps = await _steps(flow)
            back_at = time.time()
            await _until_each_works(h, cut_off)
            await _until_empty(h)
            assert (told, await flow.astatus(), await _steps(flow)) == ("cancelled", "cancelled", steps)
        assert not (await h.broker.standing_entries("flow.>")).names
        begun = h.ledger.entries("row")
        late = [each for each in begun if each.at > (back_at if each.pid == cut_off.pid else cancelled_at + 1)]
        assert late == [], (cancelled_at, back_at)
        (cleaned,) = h.ledger.entries("clean_up")
        assert steps["row"][1] == ROWS
        assert ROWS * 2 // 5 <= cleaned.n == steps["row"][0] <= len(h.ledger.entries("row-done")) < ROWS
        assert (steps["count"], steps["clean_up"], h.ledger.entries("count")) == ((0, 1), (1, 1), [])


def _worker(h: Harness) -> WorkerProcess:
    env = {"JETQ_TEST_WATCH": str(TURN)}
    return WorkerProcess(h.url, h.ledger, ack_wait=LEASE, env=env, modules="tests.apps.program_tasks")


@contextmanager
def _stopped(worker: WorkerProcess) -> Iterator[None]:
    """Meanwhile the worker does nothing, as without its machine and its network."""
    os.kill(worker.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@asynccontextmanager
async def _button(h: Harness, members: int) -> AsyncIterator[asyncio.Task[tuple[str, float]]]:
    """A process that cancels the import when so many rows are done; what it was told, and when."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.apps.flow_button", "import", "row", str(members),
        env=os.environ | {"JETQ_SERVERS": h.url, "PYTHONPATH": str(ROOT)}, cwd=h.ledger.path.parent,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline()) == ["begun"]
    pressed = asyncio.create_task(_read(process.stdout))
    try:
        yield pressed
    finally:
        pressed.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _read(lines: asyncio.StreamReader) -> tuple[str, float]:
    """Read to the end what the button says. What is done never becomes less."""
    *looks, (told, at) = [json.loads(line) async for line in lines]
    assert len(looks) > 1
    assert all(total == ROWS for _, _, total in looks)
    assert sorted(looks) == looks
    return told, at


async def _until_each_works(h: Harness, *workers: WorkerProcess) -> None:
    """Until each of the workers has run a plain job of now; then it has handled what was handed out to it before."""
    began = len(h.ledger.entries("transcode"))
    async with asyncio.timeout(WITHIN):
        while {each.pid for each in workers} - {entry.pid for entry in h.ledger.entries("transcode")[began:]}:
            await h.app.adelay_many(
                h.app.call("tests.apps.program_tasks.transcode", {"n": 0}, queue=QUEUE) for _ in range(50)
            )
            await asyncio.sleep(0.05)


async def _until_empty(h: Harness) -> None:
    async with asyncio.timeout(WITHIN):
        while await h.broker.stored_jobs(QUEUE):
            await asyncio.sleep(0.05)


async def _steps(flow: Workflow[int]) -> dict[str, tuple[int, int | None]]:
    """How many members of each step are done, and how many there are."""
    return {name: (step.done, step.total) for name, step in (await flow.asteps()).items()}

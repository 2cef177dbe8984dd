"""A workflow fans out over a list whose length nobody knows when it is stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from jetq import Work, each
from jetq.client.app import replaced_default
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.program_tasks import concat, split, transcode
from tests.apps.sweeping import SWEEPS_ALL
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

SIZES = (0, 1, 999, 1_000, 1_001, 25_000 if SWEEPS_ALL else 5_000)
"""Items. A page of a step is 1,000 members."""

WITHIN = 150.0
"""Seconds."""


def video(size: int) -> Work[list[str]]:
    return each(transcode, split.bind(size).out, codec="h264") | concat


async def test_a_fan_out_of_any_length_gives_its_list_in_order_and_joins_once(
    nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    """Two workers end members of all of them side by side."""
    async with harness(nats_server().url, tmp_path) as h:
        with replaced_default(h.app):
            flows = {size: await video(size).adelay(id=f"video-{size}") for size in SIZES}
        with _worker(h), _worker(h):
            for size, flow in flows.items():
                assert await flow.aresult(WITHIN) == [f"h264-{n}" for n in range(size)]
                assert {name: (step.state, step.done, step.total) for name, step in (await flow.asteps()).items()} == {
                    "split": ("succeeded", 1, 1),
                    "transcode": ("succeeded", size, size),
                    "concat": ("succeeded", 1, 1),
                }
            await _until_done(h)
        assert h.ledger.count("split") == h.ledger.count("concat") == Counter(SIZES)
        members = Counter(entry.id for entry in h.ledger.entries("transcode"))
        assert members.total() == len(members) == sum(SIZES)


def _worker(h: Harness) -> WorkerProcess:
    return WorkerProcess(h.url, h.ledger, concurrency=50, modules="tests.apps.program_tasks")


async def _until_done(h: Harness) -> None:
    """Until no job is left but the watches, so that nothing can run later."""
    async with asyncio.timeout(60):
        while any(job.due is None for job in await h.broker.stored_jobs(QUEUE)):
            await asyncio.sleep(0.05)

"""A blocked event loop is announced once, with the code it is in."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import time

import pytest

from jetq.worker.process.loop_watch import LoopWatch
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio


def waits_somewhere_else(seconds: float, secret: str) -> None:
    time.sleep(seconds)


async def _turning(watch: LoopWatch) -> None:
    while True:
        await asyncio.sleep(0.05)
        watch.turned()


@pytest.mark.slow
async def test_a_block_is_announced_once_with_its_place_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    watch = LoopWatch(lambda: "shop.send 42")
    watch.start()
    turning = asyncio.create_task(_turning(watch))
    try:
        await asyncio.sleep(0.2)
        waits_somewhere_else(3.0, "s3cret")
        await asyncio.sleep(0.8)
    finally:
        turning.cancel()
        watch.stop()
    said, ended = [record.getMessage() for record in caplog.records]
    assert said.startswith("shop.send 42 has blocked the event loop for ")
    assert re.search(r"test_loop_watch\.py:\d+ in waits_somewhere_else, called at .*test_a_block_is_announced", said)
    assert "s3cret" not in said
    assert re.fullmatch(r"the event loop goes on after [34]\.\d s", ended)


@pytest.mark.slow
async def test_a_loop_that_turns_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    watch = LoopWatch(lambda: "nothing")
    watch.start()
    turning = asyncio.create_task(_turning(watch))
    await asyncio.sleep(2.5)
    turning.cancel()
    watch.stop()
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.slow
async def test_of_a_deep_stack_both_ends_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            time.sleep(2.0)

    watch = LoopWatch(lambda: "x")
    watch.start()
    deeper(30)
    watch.stop()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "called at ..., called at" in said
    assert said.count(" in ") < 8


@pytest.mark.slow
async def test_a_worker_names_the_job_and_its_line(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "jetq.worker")
    app = fresh_app(nats_url)

    @app.task(name="shop.blocks")
    async def blocks() -> int:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(2.5)"], check=True)
        return 1

    @app.task(name="shop.other")
    async def other(n: int) -> int:
        await asyncio.sleep(0.1)
        return n

    async with working(app):
        job = await blocks.adelay()
        others = [await other.adelay(n) for n in range(5)]
        assert await job.aresult(timeout=20) == 1
        assert [await each.aresult(timeout=20) for each in others] == list(range(5))
        await asyncio.sleep(0.7)
    (said, ended) = [record.getMessage() for record in caplog.records if "event loop" in record.getMessage()]
    assert said.startswith(f"shop.blocks {job.id} has blocked")
    assert re.search(r"test_loop_watch\.py:\d+ in .*blocks", said)
    assert ended.startswith("the event loop goes on")

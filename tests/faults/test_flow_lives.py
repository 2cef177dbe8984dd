"""A workflow of one key is stored again and again, by two creators at a time, at once after each end: no life meets
another, and in the end nothing is left of any.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, defaultdict
from contextlib import aclosing
from pathlib import Path

import pytest

from jetq import Jetq, JobCancelled, TaskFailed, Work, group
from jetq.client.workflows.workflow import Workflow
from jetq.operations.workflows import creating
from jetq.operations.workflows.creating import WATCH
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.sweeping import SWEEPS_ALL
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_500 if SWEEPS_ALL else 240)]

ROUNDS = 500 if SWEEPS_ALL else 60
PARTS = 20
SLOW = 2.0 if SWEEPS_ALL else 0.4
"""Seconds that one of the parts takes."""

WITHIN = 60.0
"""Seconds."""

TURN = 1.0
"""Seconds after which the watch looks at a new workflow."""


class Creator:
    """One who stores the workflow of the week, with arguments that nobody else has."""

    def __init__(self, app: Jetq, rng: random.Random) -> None:
        self.app = app
        self._rng = rng

        @app.task(name="tests.apps.program_tasks.part", queue=QUEUE, max_attempts=1)
        async def part(tag: int, n: int, seconds: float, broken: bool) -> int:
            raise NotImplementedError

        @app.task(name="tests.apps.program_tasks.together", queue=QUEUE, max_attempts=1)
        async def together(tags: list[int]) -> list[int]:
            raise NotImplementedError

        @app.task(name="tests.apps.program_tasks.tell", queue=QUEUE, max_attempts=1)
        async def tell(n: int) -> None: ...

        @app.task(name="tests.apps.program_tasks.close_books", queue=QUEUE, max_attempts=1)
        async def close_books(n: int) -> None: ...

        self._part, self._together, self._tell, self._close_books = part, together, tell, close_books

    async def store(self, tag: int, *, fails: bool) -> Workflow[list[int]]:
        return await self._work(tag, self._rng.randrange(PARTS), fails=fails).adelay(key="weekly")

    def _work(self, tag: int, slow: int, *, fails: bool) -> Work[list[int]]:
        broken = self._rng.randrange(PARTS) if fails else None
        parts = (self._part.bind(tag, n, SLOW if n == slow else 0.0, n == broken) for n in range(PARTS))
        work = group(parts) | self._together
        return work.on_failure(self._tell.bind(tag)).finally_(self._close_books.bind(tag))


async def test_each_life_of_a_key_has_its_own_arguments_and_leaves_nothing(
    nats_server: NatsServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("JETQ_TEST_SEED", "7"))
    rng, server = random.Random(seed), nats_server()
    monkeypatch.setattr(creating, "FIRST_TURN", TURN)
    other = Jetq(server.url)
    async with harness(server.url, tmp_path) as h, aclosing(other.session):
        creators = [Creator(h.app, rng), Creator(other, rng)]
        ends = dict[int, str]()
        with _worker(h) as first, _worker(h) as second:
            for number in range(ROUNDS):
                ends |= await _round(number, creators, rng)
            await _until_no_job_is_left(h)
            for worker in (first, second):
                worker.stop()
                assert worker.wait() == 0
        assert not (await h.broker.standing_entries("flow.>")).names
        assert set(ends.values()) == {"succeeded", "failed", "cancelled"}
        _check_runs(h, ends)


async def _round(number: int, creators: list[Creator], rng: random.Random) -> dict[int, str]:
    """Both store a workflow at a time, and one of them is stored; the other too only if that has ended already. Return
    how they have ended, by their tags."""
    last = number == ROUNDS - 1  # a failure would be kept for weeks
    fails = {tag: not last and rng.random() < 0.3 for tag in (2 * number, 2 * number + 1)}
    flows = await asyncio.gather(
        *(creator.store(tag, fails=fails[tag]) for creator, tag in zip(creators, fails, strict=True))
    )
    tags = [tag for tag, flow in zip(fails, flows, strict=True) if flow.disposition == "stored"]
    if len(tags) == 2:
        return await _one_after_the_other(flows[0], fails)
    assert len(tags) == 1, (number, flows)
    (tag,), told = tags, "running"
    if rng.random() < 0.4:
        await asyncio.sleep(rng.uniform(0, SLOW))
        told = await rng.choice(flows).acancel()
    ends = [await _end(flow, tag) for flow in flows]
    alone = "failed" if fails[tag] else "succeeded"
    expected = {"cancelled": "cancelled", "finished": "succeeded", "running": alone}[told]
    assert ends == [expected] * 2, (number, tag, told)
    return {tag: expected}


async def _one_after_the_other(flow: Workflow[list[int]], fails: dict[int, bool]) -> dict[int, str]:
    """Return the ends of two workflows that were both stored, because the first one had failed by then."""
    try:
        value = await flow.aresult(WITHIN)
        tag, end = value[0], "succeeded"
        assert value == [tag] * PARTS
    except TaskFailed as failed:
        tag, end = next(each for each in fails if f" of {each} is broken" in str(failed)), "failed"
    (first,) = fails.keys() - {tag}
    assert fails[first] and fails[tag] == (end == "failed")
    return {first: "failed", tag: end}


async def _end(flow: Workflow[list[int]], tag: int) -> str:
    """How it has ended. Its value, or its failure, is of the arguments that have this tag."""
    try:
        assert await flow.aresult(WITHIN) == [tag] * PARTS
    except JobCancelled:
        return "cancelled"
    except TaskFailed as failed:
        assert f" of {tag} is broken" in str(failed)
        return "failed"
    return "succeeded"


async def _until_no_job_is_left(h: Harness) -> None:
    """Until all watches have cleared up. Those of workflows that have failed look once a day."""
    async with asyncio.timeout(WITHIN):
        while jobs := await h.broker.stored_jobs(QUEUE):
            for job in jobs:
                if job.delivery.task == WATCH and job.due is not None and job.due > h.broker.now() + 60:
                    await h.broker.release(job)
            await asyncio.sleep(0.1)


def _check_runs(h: Harness, ends: dict[int, str]) -> None:
    """Of each life there were members with one tag, each at most once, one join if it gave its value, and one call at
    its end."""
    tags = defaultdict[str, set[int]](set)
    for entry in h.ledger.entries():
        tags[entry.id.partition(":")[0]].add(entry.n)
    assert [found for found in tags.values() if len(found) > 1] == []
    assert set(Counter(entry.id for entry in h.ledger.entries()).values()) == {1}
    assert {tag for tag, end in ends.items() if end == "succeeded"} <= set(h.ledger.count("together"))
    assert h.ledger.count("close_books") == dict.fromkeys(ends, 1)
    # Whoever cancels a workflow that has failed takes nothing back.
    assert {tag: 1 for tag, end in ends.items() if end == "failed"}.items() <= h.ledger.count("tell").items()


def _worker(h: Harness) -> WorkerProcess:
    env = {"JETQ_TEST_WATCH": str(TURN)}
    return WorkerProcess(h.url, h.ledger, concurrency=10, env=env, modules="tests.apps.program_tasks")

"""The worker is killed before and after each call it makes to the broker, then started again: nothing may be lost, and
nothing stored twice.

The kill points are not listed here. A first run counts the calls that each scenario makes, and the sweep kills at every
one of them, so a step added to the settlement is swept without a word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jetq.model.job import State
from tests.apps.harness import Harness, harness
from tests.apps.ledger import Ledger
from tests.apps.workers import WorkerProcess
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Scenario:
    """Two jobs of one task, and what must be seen of each at the end.

    finishes: runs to the end, each of which a kill may add one to. letters: dead letters, exactly. attempts: runs of
    each, 0 for none. expires: seconds after which it is not to be run. state: how each ends, if that is kept.
    """

    task: str
    arguments: dict[str, object] = field(default_factory=dict)
    finishes: int = 1
    letters: int = 0
    attempts: int = 1
    expires: float | None = None
    state: State | None = None


SCENARIOS = {
    "success": Scenario("quick"),
    "result": Scenario("second_time_lucky", attempts=2),
    "dead": Scenario("failing", finishes=0, letters=1, attempts=4, state="dead"),
    "arguments": Scenario("asks_again", attempts=2, state="succeeded"),
    "limited": Scenario("single"),
    "expired": Scenario("quick", finishes=0, attempts=0, expires=0.001, state="expired"),
}
JOBS = 2


async def _run(h: Harness, scenario: Scenario, env: dict[str, str]) -> None:
    """One worker with `env`, and another after it if it died, until the queue is empty."""
    with WorkerProcess(h.url, h.ledger, ack_wait=1.0, concurrency=1, env=env) as worker:
        await h.until(
            lambda info: info.ready == info.running == info.scheduled == 0 or worker.process.poll() is not None
        )
        died = worker.process.poll() is not None
    if died:
        with WorkerProcess(h.url, h.ledger, ack_wait=1.0) as worker:
            await h.until_done()


async def _points(h: Harness, scenario: Scenario, calls: Path) -> list[str]:
    await _send(h, scenario)
    await _run(h, scenario, {"JETQ_TEST_CALLS": str(calls)})
    return [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]


async def _send(h: Harness, scenario: Scenario) -> list[str]:
    return await h.send(scenario.task, JOBS, expires=scenario.expires, **scenario.arguments)


async def _check(h: Harness, scenario: Scenario, ids: list[str], where: str) -> None:
    letters = Counter(entry.letter.id for entry in await h.dead())
    assert sum(letters.values()) == scenario.letters * JOBS, (where, letters)
    assert all(times == 1 for times in letters.values()), (where, letters)
    finished = [n for n, times in h.ledger.count("finish").items() for _ in range(times)]
    assert JOBS * scenario.finishes <= len(finished) <= JOBS * scenario.finishes + 1, (where, finished)
    per_job = Counter(entry.id for entry in h.ledger.entries("start"))
    # A kill may repeat one attempt of one job, and doubles no retry: each attempt is started once but for that.
    assert sum(per_job.values()) <= JOBS * scenario.attempts + 1, (where, per_job)
    assert max((entry.attempt for entry in h.ledger.entries("start")), default=0) == scenario.attempts, where
    if scenario.state is not None:
        assert {await h.app.job(id, queue="ledger").astatus() for id in ids} == {scenario.state}, where


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(
    name: str, nats_server: NatsServerFactory, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    server = nats_server()
    async with harness(server.url, tmp_path, ack_wait=1.0) as h:
        points = await _points(h, scenario, tmp_path / "calls")
        assert len(points) >= 2 * JOBS
        for number, where in enumerate(points, start=1):
            await h.broker.purge_dead("ledger")
            h.ledger = Ledger(tmp_path / f"ledger-{number}")
            ids = await _send(h, scenario)
            await _run(h, scenario, {"JETQ_TEST_KILL_AT": str(number)})
            await _check(h, scenario, ids, f"killed {where}, call {number}")

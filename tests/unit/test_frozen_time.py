"""Tests of users that stop the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import freezegun
import pytest

from jetq import Jetq, Retry, current_job, task
from jetq.testing import in_memory


@pytest.mark.parametrize("run_in", ["loop", "thread"])
def test_jobs_run_while_the_clock_stands_still(run_in: str) -> None:
    seen: list[tuple[int, datetime]] = []

    def sync(x: int) -> int:
        seen.append((current_job().attempt, datetime.now(UTC)))
        if current_job().attempt == 1:
            raise Retry(60)
        return x + 1

    async def on_loop(x: int) -> int:
        return sync(x)

    made = task(name=f"frozen.{run_in}")(on_loop if run_in == "loop" else sync)
    frozen = datetime(2024, 2, 29, 12, tzinfo=UTC)
    with freezegun.freeze_time(frozen), in_memory(Jetq()) as tester:
        job = made.delay(1)
        assert tester.run_until_empty().retried == 1
        tester.advance(timedelta(minutes=1))
        assert tester.run_until_empty().succeeded == 1
        assert job.result(timeout=1) == 2
    assert seen == [(1, frozen), (2, frozen)]

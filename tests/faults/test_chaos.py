"""Faults at random while jobs are produced and run: nothing is lost, and nothing runs twice without a reason.

One seed again: `python -m tests.faults.chaos --seed 7`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.chaos.driver import run

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_and_nothing_doubled(seed: int, tmp_path: Path) -> None:
    report = await run(seed, 10_000, tmp_path)
    assert report.verdict.holds, report.text()
    assert report.verdict.stored > 8_000, report.text()
    assert sum(report.faults.values()) > 3, report.text()

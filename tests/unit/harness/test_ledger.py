"""The ledger of tests is read while workers write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.ledger import Ledger

LINES = "start 1 1 77 1764460000.000001 job-1\nfinish 1 1 77 1764460000.000002 job-1\n"


@pytest.mark.parametrize("written", range(len(LINES) + 1))
def test_a_line_counts_when_its_end_is_written(tmp_path: Path, written: int) -> None:
    path = tmp_path / "ledger"
    path.write_text(LINES[:written])
    assert len(Ledger(path).entries()) == LINES[:written].count("\n")

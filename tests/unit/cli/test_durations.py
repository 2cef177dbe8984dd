"""Durations, times in the past and rates as they are typed, and the progress of a replay as it is shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
import pytest

from jetq.cli.durations import DURATION, PAST, RATE
from jetq.cli.verbs.dlq_replay import _Progress
from jetq.memory import MemoryBroker
from jetq.model.definitions.rate import Rate
from jetq.operations.dead_letters import Replay


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-08-01T12:00:00Z", datetime(2026, 8, 1, 12, tzinfo=UTC).timestamp()),
        ("2026-08-01T12:00+02:00", datetime(2026, 8, 1, 10, tzinfo=UTC).timestamp()),
        ("2026-08-01 12:00", datetime(2026, 8, 1, 12).timestamp()),
        ("2026-08-01", datetime(2026, 8, 1).timestamp()),
    ],
)
def test_a_time_is_local_without_an_offset(text: str, at: float) -> None:
    assert PAST.convert(text, None, None) == at


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("3d", 259_200), ("1h30m", 5400)])
def test_an_age_is_taken_from_now(text: str, seconds: float) -> None:
    assert PAST.convert(text, None, None) == pytest.approx(time.time() - seconds, abs=5)


@pytest.mark.parametrize("text", ["", "yesterday", "90", "2h ago", "2026-13-01", "-2h"])
def test_what_is_neither_a_time_nor_an_age_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a time like"):
        PAST.convert(text, None, None)


def test_rates_and_durations_are_those_of_task_options() -> None:
    assert RATE.convert("10/s", None, None) == Rate(10, 1.0)
    assert DURATION.convert("10m", None, None) == 600.0
    with pytest.raises(click.BadParameter, match="rate is a number from 1 and a unit"):
        RATE.convert("10", None, None)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    progress, work = _Progress(10), Replay(MemoryBroker(), [])
    work.left = 7
    progress.show(work)
    progress.show(work)  # too soon for another
    progress.clear()
    assert capsys.readouterr().err == ("\r\x1b[K3 of 10\r\x1b[K" if terminal else "")

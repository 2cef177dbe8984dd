"""Dead letters as rows of a table, and as JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jetq.cli.exit import FAILED, Failed
from jetq.cli.output import age, echo_table
from jetq.model.dead_letter import DeadEntry

__all__ = ["Row", "already_stored", "count", "echo_rows", "row", "summary"]

Row = tuple[object, ...]

_HEADER = ("JOB", "QUEUE", "TASK", "REASON", "ATTEMPT", "AGE", "ERROR")
_MOST_IDS = 10


def row(entry: DeadEntry) -> Row:
    """Return a redacted entry as a row for `echo_rows`."""
    letter = entry.letter
    died = age(time.time() - letter.at)
    return (letter.id, letter.queue, letter.task, letter.reason, letter.attempt, died, _error(entry))


def echo_rows(rows: Sequence[Row]) -> None:
    """Print `rows` as a table."""
    echo_table(_HEADER, rows, right=(4, 5))


def summary(entry: DeadEntry) -> dict[str, object]:
    """Return the few fields of a redacted entry that a list shows."""
    letter = entry.letter
    return {
        "id": letter.id,
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "at": letter.at,
        "enqueued": letter.enqueued,
        "error": {"type": letter.failure.type, "message": letter.failure.message},
        "replays": letter.replays,
        "edits": letter.edits,
    }


def count(number: int, what: str) -> str:
    """Return the number with its noun: `1 job`, `2 jobs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def already_stored(ids: Sequence[str]) -> Failed:
    """Return the error for jobs that were not replayed because other jobs with the same id or key are stored."""
    shown = ", ".join(ids[:_MOST_IDS]) + (f" and {len(ids) - _MOST_IDS:,} more" if len(ids) > _MOST_IDS else "")
    return Failed(
        f"not replayed, because a job of that id or key stands in its queue already: {shown}",
        hint=f"jetq job show {ids[0]}",
        code=FAILED,
    )


def _error(entry: DeadEntry) -> str:
    return f"{entry.letter.failure.type}: {entry.letter.failure.message}"

"""Values as text in a terminal: tables, times, errors, and a job's bytes."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from jetq.model import AttemptError

__all__ = [
    "age",
    "arguments",
    "echo_errors",
    "echo_fields",
    "echo_json",
    "echo_table",
    "errors_json",
    "moment",
    "printable",
]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def echo_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Columns as wide as they need, those of `right` flush right; the last one is not padded."""
    table = [list(header), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def echo_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One `name  value` a line, those without a value left out."""
    kept = [(name, value) for name, value in fields if value not in (None, "")]
    width = max(len(name) for name, _ in kept)
    for name, value in kept:
        click.echo(f"{name.ljust(width)}  {value}")


def echo_errors(errors: Sequence[AttemptError], dropped: int) -> None:
    """How each attempt ended, oldest first."""
    if dropped:
        click.echo(f"  ({dropped} older ones were cut)")
    for error in errors:
        click.echo(
            f"  {moment(error.at)}  attempt {error.attempt}  {_one_line(error.type)}: {_one_line(error.message)}"
        )


def echo_json(value: Any) -> None:
    """`value` as one line of JSON, an instant or a Struct too."""
    click.echo(msgspec.json.encode(value).decode())


def errors_json(errors: Sequence[AttemptError]) -> list[dict[str, Any]]:
    """The attempts' errors with every field, defaults too."""
    return [{field: getattr(error, field) for field in error.__struct_fields__} for error in errors]


def arguments(body: bytes) -> Any:
    """A job's arguments: the JSON they are, or `{"base64": ...}` for bytes that are none."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {"base64": base64.b64encode(body).decode()}


def moment(at: float | None) -> str:
    """A unix time as local date and time, empty for None."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def age(seconds: float) -> str:
    """A duration in its largest unit: 5s, 12m, 3h, 2d."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0.0):.0f}s"


def printable(text: str) -> str:
    """`text` without what could move a terminal's cursor or clear its screen: it comes from a job. Line ends stay."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _one_line(cell: object) -> str:
    return printable(str(cell)).replace("\n", " ")

"""Tables for people, and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
import msgspec
from msgspec import Struct

__all__ = ["echo_lines", "echo_rows"]


def echo_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. A cell that is None stays empty."""
    table = [tuple(header), *(tuple("" if cell is None else str(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def echo_lines(values: Iterable[Struct]) -> None:
    """Print each value as one line of JSON."""
    for value in values:
        click.echo(msgspec.json.encode(value))

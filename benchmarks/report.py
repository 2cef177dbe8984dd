"""The table of a run, in Markdown that reads as plain text too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results import Figure, Results

__all__ = ["describe", "table"]

_HEAD = ("case", "figure", "jetq", "low - high", "floor", "ratio", "by round", "target", "met")


def table(results: Results) -> str:
    """A row for each figure. ratio: of the medians; by round: the median of the rounds' ratios."""
    return _aligned([_HEAD, *map(_row, results)])


def _row(figure: Figure) -> tuple[str, ...]:
    digits, target = figure.measure.digits, figure.measure.target
    return (
        figure.case.name,
        figure.measure.unit,
        _number(figure.median, digits),
        f"{_number(min(figure.jetq), digits)} - {_number(max(figure.jetq), digits)}",
        _number(figure.floor_median, digits),
        _number(figure.ratio_of_medians, 2),
        _number(figure.ratio, 2),
        "" if target is None else str(target),
        {True: "yes", False: "NO", None: ""}[figure.met],
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = [" | ".join(map(str.ljust, row, widths)) for row in rows]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (head, rule, *body)).replace(f"| {rule} |", f"|-{rule}-|")


def describe(environment: Mapping[str, str | int]) -> str:
    """What the figures depend on, in a line."""
    return ", ".join(f"{name} {value}" for name, value in environment.items())

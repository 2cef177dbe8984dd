"""What was measured: the figures of every round, and their medians, spread and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from benchmarks.case import Case, Measure
from benchmarks.ground import Side

__all__ = ["Figure", "Results"]


class Figure(Struct):
    """One measure of one case over all rounds, jetq's and the floor's. floor: empty if there is none."""

    case: Case
    measure: Measure
    jetq: Sequence[float]
    floor: Sequence[float]

    @property
    def median(self) -> float:
        """Of jetq."""
        return statistics.median(self.jetq)

    @property
    def floor_median(self) -> float | None:
        """Of the floor."""
        return statistics.median(self.floor) if self.floor else None

    @property
    def ratios(self) -> list[float]:
        """Of jetq to the floor, round by round."""
        return [ours / floor for ours, floor in zip(self.jetq, self.floor, strict=False) if floor]

    @property
    def ratio_of_medians(self) -> float | None:
        """Of jetq to the floor, over all rounds."""
        return self.median / self.floor_median if self.floor_median else None

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios. A round's two sides ran one after the other, so that what else a machine
        was doing weighs on both."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        target = self.measure.target
        if target is None:
            return None
        value = self.ratio if target.of == "floor" else self.median
        return value is not None and target.met(value)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        target = self.measure.target
        return {
            "unit": self.measure.unit,
            "jetq": _summary(self.jetq),
            "floor": _summary(self.floor) if self.floor else None,
            "ratios": self.ratios,
            "ratio": self.ratio,
            "ratio_of_medians": self.ratio_of_medians,
            "target": None if target is None else str(target),
            "met": self.met,
        }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """spread: from the least to the most, as a share of the median."""
    median = statistics.median(values)
    spread = (max(values) - min(values)) / median if median else 0.0
    return {"median": median, "low": min(values), "high": max(values), "spread": spread, "values": list(values)}


class Results:
    """Figures by case, side and measure, and the cases whose ledger did not add up."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self.failures: dict[str, str] = {}
        self._values: dict[tuple[str, Side, str], list[float]] = {}

    def add(self, case: Case, side: Side, figures: Mapping[str, float]) -> None:
        """What one side of one round gave."""
        for measure in case.measures:
            self._values.setdefault((case.name, side, measure.name), []).append(figures[measure.name])

    def of(self, case: Case) -> Iterator[Figure]:
        """The figures of `case`, those that there are."""
        for measure in case.measures:
            jetq = self._values.get((case.name, "jetq", measure.name), [])
            if jetq:
                yield Figure(case, measure, jetq, self._values.get((case.name, "floor", measure.name), []))

    def __iter__(self) -> Iterator[Figure]:
        for case in self.cases:
            yield from self.of(case)

    def document(self, environment: Mapping[str, str | int], scale: float) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "environment": environment,
            "scale": scale,
            "failures": self.failures,
            "cases": {
                case.name: {
                    "title": case.title,
                    "count": case.scaled(scale),
                    "measures": {figure.measure.name: figure.document() for figure in self.of(case)},
                }
                for case in self.cases
            },
        }

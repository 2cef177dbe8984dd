"""What was measured, and how it reads: as a table for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.roster import ROSTER
from benchmarks.peers.turns import CASES, DRAIN, ENQUEUE, ONE_BY_ONE, P50, P99, Measure

OURS = "jetq"
LATENCIES = (P50, P99)
FAMILIES = {
    "Coroutines": (ENQUEUE["loop"], ONE_BY_ONE["loop"], DRAIN["loop"]),
    "Functions in threads": (ENQUEUE["threads"], ONE_BY_ONE["threads"], DRAIN["threads"]),
    "Idle latency": LATENCIES,
}
"""The cases of each Markdown table."""


@dataclass
class Results:
    """The figures of all rounds, by case and contestant: jobs per second, seconds in the cases of latency."""

    environment: dict[str, str]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def note(self, name: str, measure: Measure) -> None:
        """One figure, or why there is none."""
        if measure.value is None:
            self.problem(name, f"{measure.case}: {measure.problem}")
        else:
            self.figures.setdefault(measure.case, {}).setdefault(name, []).append(measure.value)

    def problem(self, name: str, text: str) -> None:
        """Something that `name` could not do; said once."""
        known = self.problems.setdefault(name, [])
        if text not in known:
            known.append(text)

    def medians(self, case: str) -> dict[str, float]:
        """The median of each contestant, the best first."""
        medians = {name: statistics.median(values) for name, values in self.figures.get(case, {}).items()}
        return dict(sorted(medians.items(), key=lambda item: item[1], reverse=case not in LATENCIES))

    def as_json(self) -> dict[str, Any]:
        """Everything: each round's figures, with the versions that they belong to."""
        medians = {case: self.medians(case) for case in CASES if case in self.figures}
        return {
            "environment": self.environment,
            "versions": self.versions,
            "medians": medians,
            "rounds": self.figures,
            "problems": self.problems,
        }


def multiple(case: str, medians: dict[str, float], name: str) -> float | None:
    """How many times faster jetq is than `name`; None where jetq was not measured."""
    ours, theirs = medians.get(OURS), medians[name]
    if not ours or not theirs:
        return None
    return theirs / ours if case in LATENCIES else ours / theirs


def shown(case: str, value: float) -> str:
    """A figure in the unit of its case."""
    return f"{value * 1000:.2f} ms" if case in LATENCIES else f"{value:,.0f}"


def table(results: Results) -> str:
    """Every case with the best first, spread and jetq's multiple; then what could not be measured, and the versions."""
    lines: list[str] = []
    for case in CASES:
        medians = results.medians(case)
        if not medians:
            continue
        unit = "" if case in LATENCIES else "jobs/s"
        lines += ["", f"{case:32}{unit:>12}{'spread':>22}{'jetq is':>10}"]
        lines += [_row(results, case, medians, name) for name in medians]
    if results.problems:
        lines += ["", "not measured"]
    lines += [f"  {name:14}{text}" for name, texts in results.problems.items() for text in texts]
    lines += ["", "; ".join(f"{name} {value}" for name, value in results.environment.items())]
    lines += [f"  {name:14}{_versions(versions)}" for name, versions in results.versions.items()]
    return "\n".join(lines).lstrip("\n")


def _row(results: Results, case: str, medians: dict[str, float], name: str) -> str:
    values = results.figures[case][name]
    spread = f"{shown(case, min(values))} - {shown(case, max(values))}"
    times = multiple(case, medians, name)
    ratio = f"{times:.2f} x" if times and name != OURS else ""
    return f"  {name:30}{shown(case, medians[name]):>12}{spread:>22}{ratio:>10}"


def markdown(results: Results) -> str:
    """A table per family of cases: medians, and in brackets how many times faster jetq is."""
    parts = [_family(results, title, cases) for title, cases in FAMILIES.items()]
    if results.problems:
        texts = [f"{name}: {text}" for name, texts in results.problems.items() for text in texts]
        parts.append("Not measured: " + "; ".join(texts) + ".")
    parts.append("; ".join(f"{name} {value}" for name, value in results.environment.items()) + ".")
    parts.append("Versions: " + "; ".join(_named(name, found) for name, found in results.versions.items()) + ".")
    return "\n\n".join(part for part in parts if part) + "\n"


def _family(results: Results, title: str, cases: tuple[str, ...]) -> str:
    medians = {case: results.medians(case) for case in cases}
    order = list(medians[cases[-1]])
    order += [one.name for one in ROSTER if one.name not in order and any(one.name in medians[case] for case in cases)]
    if not order:
        return ""
    head = [f"| {title} | " + " | ".join(cases) + " |", "|---|" + "---:|" * len(cases)]
    return "\n".join(head + [f"| {name} | " + " | ".join(_cells(medians, name)) + " |" for name in order])


def _cells(medians: dict[str, dict[str, float]], name: str) -> list[str]:
    return [_cell(case, found, name) if name in found else "" for case, found in medians.items()]


def _cell(case: str, medians: dict[str, float], name: str) -> str:
    times = multiple(case, medians, name)
    return shown(case, medians[name]) + (f" ({times:.1f}×)" if times and name != OURS else "")  # noqa: RUF001


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _named(name: str, versions: dict[str, str]) -> str:
    return _versions(versions) if name in versions else f"{name} ({_versions(versions)})"

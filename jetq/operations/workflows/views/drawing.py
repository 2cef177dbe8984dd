"""The steps of a workflow as a drawing: a tree of lines for a terminal, and a flowchart of Mermaid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter

from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Edge, Plan, Step
from jetq.model.workflows.views import StepView

__all__ = ["draw_flowchart", "draw_tree", "step_counts"]

_INDENT = "  "
_DEEPEST = 12
"""Levels of a tree beyond which its steps are not indented further: a chain may have a thousand steps."""

_WIDEST = 60
"""Columns of the steps' names; the state of a step with a longer name stands further to the right."""

_SHOWN_FAILURES = 3
_SHOWN_SOURCES = 3
_LONGEST_LINE = 200
"""Characters of a failure."""

_STATES = {
    "waiting": "fill:#eeeeee,stroke:#999999,color:#333333",
    "running": "fill:#cfe2ff,stroke:#0d6efd,color:#052c65",
    "succeeded": "fill:#d1e7dd,stroke:#198754,color:#0a3622",
    "failed": "fill:#f8d7da,stroke:#dc3545,color:#58151c",
    "cancelled": "fill:#e2e3e5,stroke:#6c757d,color:#41464b",
    "expired": "fill:#fff3cd,stroke:#ffc107,color:#664d03",
}
"""The colours of a step of each state in a flowchart."""

_WHEN = {"failure": "if it fails", "end": "at its end"}


def step_counts(view: StepView) -> str:
    """Return how many members of a step are done, as `3/10, 1 failed`. A number that nobody knows is `?`."""
    total = "?" if view.total is None else f"{view.total}"
    return f"{view.done}/{total}" + (f", {view.failed} failed" if view.failed else "")


# --- trees


def draw_tree(views: Mapping[str, StepView], plan: Plan | None = None) -> list[str]:
    """Return the steps as lines: each below one step that it waits for, and below it its first failures.

    Callbacks come last. Without a plan the steps stand one below the other.
    """
    steps = {} if plan is None else plan.steps
    placed = list(_placed(steps)) if plan is not None else [(name, 0, ()) for name in views]
    width = max((len(_INDENT) * level + len(name) for name, level, _ in placed), default=0)
    lines: list[str] = []
    for name, level, others in placed:
        title = (_INDENT * level + name).ljust(min(width, _WIDEST))
        notes = [step_counts(views[name]), *_notes(steps.get(name), others)]
        lines.append(f"{title}  {views[name].state:<9}  {', '.join(notes)}")
        lines += [_INDENT * (level + 2) + line for line in _failure_lines(views[name])]
    return lines


def _placed(steps: Mapping[str, Step]) -> Iterator[tuple[str, int, Sequence[str]]]:
    """Yield each step with its level in the tree, and what it waits for beside the step that it stands below."""
    parents = _parents(steps)
    children: dict[str | None, list[str]] = {}
    for name in sorted(steps, key=lambda name: steps[name].callback is not None):  # which keeps the order otherwise
        children.setdefault(parents[name], []).append(name)
    waiting = [(name, 0) for name in reversed(children[None])]
    while waiting:
        name, level = waiting.pop()
        sources = dict.fromkeys(edge.source for edge in steps[name].edges)
        yield name, min(level, _DEEPEST), [source for source in sources if source != parents[name]]
        waiting += [(child, level + 1) for child in reversed(children.get(name, ()))]


def _parents(steps: Mapping[str, Step]) -> Mapping[str, str | None]:
    """Return the step below which each step stands: of those that it waits for, the one that is the last to begin."""
    levels: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    for name in TopologicalSorter(_sources(steps)).static_order():
        sources = [edge.source for edge in steps[name].edges]
        parent = max(sources, key=lambda source: levels[source], default=None)
        parents[name], levels[name] = parent, 0 if parent is None else levels[parent] + 1
    return parents


def _sources(steps: Mapping[str, Step]) -> Mapping[str, Iterable[str]]:
    return {name: [edge.source for edge in step.edges] for name, step in steps.items()}


def _notes(step: Step | None, others: Sequence[str]) -> Iterator[str]:
    if others:
        more = len(others) - _SHOWN_SOURCES
        yield f"also after {' '.join(others[:_SHOWN_SOURCES])}" + (f" and {more} more" if more > 0 else "")
    if step is not None and step.callback is not None:
        yield _WHEN[step.callback]


def _failure_lines(view: StepView) -> Iterator[str]:
    shown = view.failures[:_SHOWN_FAILURES]
    for failure in shown:
        where = "" if view.total == 1 else f"member {failure.index}: "
        yield where + _said(failure)
    if shown and view.failed > len(shown):
        yield f"and {view.failed - len(shown)} more"


def _said(failure: Failure) -> str:
    """Return a failure on one line."""
    what = "" if failure.reason == "failed" else failure.reason
    line = ": ".join(filter(None, (what, failure.type, " ".join(failure.message.split()))))
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


# --- flowcharts


def draw_flowchart(views: Mapping[str, StepView], plan: Plan) -> str:
    """Return the plan as a flowchart of Mermaid, whose classes are the states of the steps."""
    ids = {name: f"s{number}" for number, name in enumerate(plan.steps)}
    lines = ["flowchart TD"]
    for name in plan.steps:
        left, right = ("([", "])") if plan.steps[name].callback else ("[", "]")
        text = f"{_escaped(name)}<br/>{step_counts(views[name])}"
        lines.append(f'    {ids[name]}{left}"{text}"{right}:::{views[name].state}')
    for name, step in plan.steps.items():
        if step.callback is None:
            lines += [f"    {ids[edge.source]} {_arrow(edge)} {ids[name]}" for edge in step.edges]
        else:
            lines += [f"    {ids[edge.source]} -. {_WHEN[step.callback]} .-> {ids[name]}" for edge in plan.value]
    lines += [f"    classDef {state} {colours}" for state, colours in _STATES.items()]
    return "\n".join(lines)


def _arrow(edge: Edge) -> str:
    return "-->" if edge.by == "all" else f"-->|{_BY[edge.by]}|"


_BY = {"each": "each", "items": "for each item", "page": "each group"}
"""What an edge says of the members at its two ends."""


def _escaped(text: str) -> str:
    """Return `text`, which anyone may have written, so that it is but a text of a flowchart."""
    return "".join(char if char.isalnum() or char in " -_.:" else f"#{ord(char)};" for char in text)

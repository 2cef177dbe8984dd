"""The names under which the records of workflows are stored: tokens joined by dots. No kind's filter matches another
kind's names."""

from __future__ import annotations

__all__ = [
    "all_bad",
    "allowance",
    "bad",
    "chunk_of",
    "chunks",
    "count",
    "counts",
    "end",
    "fed",
    "former",
    "full",
    "fulls",
    "life_of",
    "mark",
    "mark_by_number",
    "marks_of_page",
    "ok",
    "page",
    "page_count",
    "plan",
    "plans",
    "size",
    "states",
    "stop",
    "values_of_page",
]


def plan(home: str, workflow: str) -> str:
    """Return the name of a plan. `home` is the queue of its first job."""
    return f"plan.{home}.{workflow}"


def plans(workflow: str) -> str:
    """Return a filter for the plan of `workflow`, whatever its home."""
    return f"plan.*.{workflow}"


def life_of(life: str) -> str:
    """Return a filter for all that belongs to a life but its plan and counts."""
    return f"flow.{life}.>"


def former(life: str) -> str:
    """Return the name of the plan of a life that has ended, and in whose place another was stored. It is a page of no
    step: whoever may store plans may store pages."""
    return page(life, ":former", 0, 0)


def page(life: str, step: str, page: int, chunk: int) -> str:
    """Return the name of a chunk of the arguments of a page's members."""
    return f"flow.{life}.page.{step}.{page}.{chunk}"


def chunk_of(name: str) -> str:
    """Return which chunk of its step has the name `name`: the numbers of the page and of the chunk."""
    return name.split(".", 4)[4]


def chunks(life: str, step: str, page: int) -> str:
    """Return a filter for all chunks of a page."""
    return f"flow.{life}.page.{step}.{page}.*"


def allowance(life: str, queue: str) -> str:
    """Return the name of the note that the creator of a life may plan for `queue`, which is not the home."""
    return f"flow.{life}.allow.{queue}"


def mark(life: str, step: str, page: int, member: int) -> str:
    """Return a filter for the marks of one member, of which one stands, or both while a late success takes over."""
    return f"flow.{life}.mark.{step}.{page}.{member}.*"


def mark_by_number(life: str, step: str, member: int) -> str:
    """Return a filter for the marks of one member, whatever its page."""
    return f"flow.{life}.mark.{step}.*.{member}.*"


def ok(life: str, step: str, page: int, member: int) -> str:
    """Return the name of the mark of a member that has a value."""
    return f"flow.{life}.mark.{step}.{page}.{member}.ok"


def bad(life: str, step: str, page: int, member: int) -> str:
    """Return the name of the mark of a member that has failed."""
    return f"flow.{life}.mark.{step}.{page}.{member}.bad"


def all_bad(life: str) -> str:
    """Return a filter for the marks of all members of a life that have failed."""
    return f"flow.{life}.mark.*.*.*.bad"


def marks_of_page(life: str, step: str, page: int) -> str:
    """Return a filter for all marks of a page."""
    return f"flow.{life}.mark.{step}.{page}.*.*"


def values_of_page(life: str, step: str, page: int) -> str:
    """Return a filter for the marks of a page's members that have a value."""
    return f"flow.{life}.mark.{step}.{page}.*.ok"


def full(life: str, step: str, page: int) -> str:
    """Return the name of the note that a page is covered."""
    return f"flow.{life}.full.{step}.{page}"


def fulls(life: str, step: str) -> str:
    """Return a filter for the notes of all covered pages of a step."""
    return f"flow.{life}.full.{step}.*"


def size(life: str, step: str) -> str:
    """Return the name of the note how many members a step has whose plan does not say it."""
    return f"flow.{life}.size.{step}"


def fed(life: str, step: str) -> str:
    """Return the name of the note how many members of a step were stored as jobs."""
    return f"flow.{life}.fed.{step}"


def states(life: str) -> str:
    """Return a filter for the end and the stop of a life, of which one stands, or a failed end and the stop."""
    return f"flow.{life}.state.*"


def end(life: str) -> str:
    """Return the name of the end of a life: its value, or that it has failed."""
    return f"flow.{life}.state.end"


def stop(life: str) -> str:
    """Return the name of the stop of a life: that it was cancelled, or has expired."""
    return f"flow.{life}.state.stop"


def count(life: str, step: str, page: int) -> str:
    """Return the name of the count of a page's members that have ended."""
    return f"count.{life}.{step}.{page}"


def page_count(life: str, step: str) -> str:
    """Return the name of the count of a step's pages that are covered."""
    return f"count.{life}.{step}"


def counts(life: str) -> str:
    """Return a filter for all counts of a life."""
    return f"count.{life}.>"

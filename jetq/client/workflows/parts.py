"""What a work is made of beside plain calls: calls that take values, groups, and one task called for each item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from msgspec import Raw, Struct
from msgspec.structs import replace

from jetq.client.call import Call, Start, Work
from jetq.client.workflows.inputs import Input
from jetq.errors import WorkflowError
from jetq.migration_hints import answering
from jetq.model.definitions.options import NO_SETTINGS
from jetq.model.redaction import RedactedRepr
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import NOTHING

__all__ = [
    "Callback",
    "Called",
    "Each",
    "Group",
    "Input",
    "Many",
    "Part",
    "all_sources",
    "check_step",
    "check_work",
    "in_order",
    "part",
    "sources",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Callback(Struct, frozen=True, eq=False):
    """A call that becomes a job when the workflow has failed (`failure`) or has ended in whatever way (`end`)."""

    call: Call[Any]
    when: Literal["failure", "end"]


@answering("Work")
class Part(RedactedRepr, Work[R_co], Struct, frozen=True, eq=False, kw_only=True):
    """A work with options of its own.

    name: the name of its last step; None for the name of the task. callbacks: what the workflow calls back.
    """

    name: str | None = None
    callbacks: tuple[Callback, ...] = ()


class Called(Part[R_co], frozen=True, eq=False, kw_only=True):
    """A call with what it waits for.

    inputs: the values it takes. waits_for: the works that must be done before. instead: the JSON value that it has if
    it fails; `NOTHING` for none.
    """

    call: Call[R_co]
    inputs: tuple[Input, ...] = ()
    waits_for: tuple[Work[Any], ...] = ()
    instead: Raw = NOTHING


class Many(Part[list[R]], frozen=True, eq=False, kw_only=True):
    """Any number of works of one kind. Their value is the list of their values, in their order."""

    at_once: int | None = None
    settles: bool = False

    if TYPE_CHECKING:

        def named(self, step: str, /) -> Many[R]: ...

        def after(self, *others: Work[Any]) -> Many[R]: ...

    def settled(self) -> Many[R | Failure]:
        """Return the same works; where one fails, its Failure takes the place of its value."""
        return cast("Many[R | Failure]", replace(self, settles=True))

    def window(self, members: int, /) -> Many[R]:
        """Return the same works, of which about `members` are in the queue at once. Raises WorkflowError."""
        if isinstance(members, bool) or not isinstance(members, int) or members < 1:
            raise WorkflowError(f"a window is a number of works, 1 or more, not {members!r}")
        return replace(self, at_once=members)


class Group(Many[R], frozen=True, eq=False, kw_only=True):
    """Works that were made one by one."""

    members: tuple[Work[R], ...]


class Each(Many[R], frozen=True, eq=False, kw_only=True):
    """One task, called with each of many items.

    call: the first of the calls, or one without arguments if there are no items. bodies: the arguments of each call;
    None if the items are the value of another work, which one of the `inputs` says.
    """

    call: Call[R]
    bodies: tuple[bytes, ...] | None
    inputs: tuple[Input, ...] = ()
    waits_for: tuple[Work[Any], ...] = ()


def part(work: Work[R]) -> Part[R]:
    """Return a work that can be given options. Raises WorkflowError."""
    if isinstance(work, Call):
        check_step(work)
        return cast("Part[R]", Called(call=work))
    check_work(work)
    return cast("Part[R]", work)


def check_work(work: Any) -> None:
    """Raise WorkflowError for what is no work, or can be no step of a workflow."""
    if isinstance(work, Call):
        check_step(work)
    elif not isinstance(work, Work):
        raise WorkflowError(
            f"a workflow is made of calls, and {type(work).__name__} is none", hint="a task makes one: add.bind(2, 3)"
        )


_OF_ONE_JOB = ("id", "delay", "at", "replace", "max_wait", "throttle")


def check_step(call: Call[Any]) -> None:
    """Raise WorkflowError for a call that cannot be a step: of a key, or with an option that is about one job."""
    if call.key is not None:
        raise WorkflowError(
            f"{call.task} has a key, so that its job may be somebody else's, and no step of a workflow",
            hint="take the key off for the workflow: .options(key=None); .delay(key=...) gives the workflow one",
        )
    if call.settings is not NO_SETTINGS:
        for name in _OF_ONE_JOB:
            if getattr(call.settings, name):
                raise WorkflowError(
                    f"{call.task} has the option {name}, which is about one job, and no step of a workflow",
                    hint=f"give it to the workflow: .delay({name}=...)" if name in Start.__annotations__ else None,
                )


def in_order(work: Work[Any], sources: Callable[[Work[Any]], Iterable[Work[Any]]]) -> list[Work[Any]]:
    """Return `work` and the works it waits for, in the order in which they can begin.

    sources: a function that returns the works for which a work waits.
    """
    order: list[Work[Any]] = []
    done: set[int] = set()
    waiting = [work]
    while waiting:  # not by recursion: a thousand works may follow one another
        last = waiting[-1]
        before = () if id(last) in done else [each for each in sources(last) if id(each) not in done]
        if before:
            waiting += reversed(list(before))
            continue
        waiting.pop()
        if id(last) not in done:
            done.add(id(last))
            order.append(last)
    return order


def sources(work: Work[Any]) -> Iterator[Work[Any]]:
    """Yield the works for which `work` waits; not what is inside a group."""
    if isinstance(work, Called | Each):
        for each in work.inputs:
            yield each.work
        yield from work.waits_for


def all_sources(work: Work[Any]) -> Iterable[Work[Any]]:
    """Return the works for which `work` waits, and the members of a group."""
    return work.members if isinstance(work, Group) else sources(work)

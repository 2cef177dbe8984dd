"""What a mark sets off: the next members, the next steps, and the end of the workflow.

Who ends a member marks it first and looks then, so that the last of several sees the marks of all. Everything here may
be done again, by anyone, and at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.marks import Mark
from jetq.model.workflows.plan import WHOLE, Edge
from jetq.model.workflows.records import Ended
from jetq.operations.workflows.firing import Refused, feed, fire
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.marking import mark_failure, mark_value
from jetq.operations.workflows.states import call_back, give_value, give_verdict
from jetq.operations.workflows.values import NoItems, items_of

__all__ = [
    "Together",
    "advance",
    "end",
    "fail",
    "feed_window",
    "go_on",
    "go_on_from",
    "sets_little_off",
    "settle_failure",
    "start",
    "start_one",
]


class Together(Protocol):
    """What the members that end in one process do together."""

    async def count_up(self, name: str) -> int:
        """Count one up under `name`, and return the count. A count may be too high."""
        ...

    async def once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`, or wait until it is done if it is under way under this name."""
        ...

    async def feed(self, life: Life, step: str, ended: int) -> None:
        """Feed a step with a window, of which about `ended` members have ended, if few of its members are left."""
        ...


class _Alone:
    """Does everything at once, for a member that no worker has."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def count_up(self, name: str) -> int:
        """Count one up."""
        return await self._life.broker.count_up(name, 1)

    async def once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work`."""
        await work()

    async def feed(self, life: Life, step: str, ended: int) -> None:
        """Feed the step."""
        await feed_window(life, step)


_SHORT = 50
_PAUSES = (0.05, 0.25, 1.0, 0.0)
"""Seconds between looks at a page whose count is full and whose last marks are not: whoever has counted has marked,
but a count may be doubled. After the last look, the next count or the watch goes on."""


async def advance(
    life: Life,
    step: str,
    member: int,
    together: Together,
    *,
    looked: float,
    again: bool = False,
    counted: int | None = None,
) -> None:
    """Do what the mark of `member` sets off. `again`: this may have been done before. `looked`: a time, in unix
    seconds, at which the mark was not there yet: nobody can have stored before it what waits for the mark. counted: the
    count of its page, if it was counted already.

    Guarantee: tests/faults/test_flow_crashes.py: who dies at any step of this delays the workflow, and changes nothing;
    tests/faults/test_flow_refusals.py: nor does a broker that refuses, or does not answer.
    """
    if life.plan.steps[step].callback is not None:
        return
    if step == life.plan.last():
        await end(life)
        return
    for follower, edge in life.followers[step]:
        if edge.by == "each":
            await _start_member(life, follower, member, edge, looked, again)
    if await life.members(step) == 1:
        return await go_on(life, step, looked=looked, again=again)
    page, size = await life.page_of(step, member)
    count = counted if counted is not None else await together.count_up(names.count(life.id, step, page))
    if life.plan.steps[step].window is not None:
        await together.feed(life, step, sum((await life.pages(step))[:page]) + count)
    if count >= size:  # who was counted together looks together
        look = partial(_end_page, life, step, page, together, looked, again)
        await together.once(f"{life.id}.{step}.{page}.{count}", look)


async def _end_page(life: Life, step: str, page: int, together: Together, looked: float, again: bool) -> None:
    """Go on from a page whose members may all be done."""
    if await _cover_page(life, step, page, together, looked, again):
        await go_on(life, step, looked=looked, again=again)


async def end(life: Life) -> None:
    """Note that the work has ended, all of whose value is stored, and call back."""
    last = life.plan.last()
    if last is None:
        ended = await give_value(life, Ended(how="value"))
    else:  # its value is the end, and stands; but what takes the place of a failure nobody has stored
        instead = life.plan.steps[last].instead
        ended = not instead or await mark_value(life, last, 0, bytes(instead)) is not None
    if ended:
        await call_back(life)


async def _cover_page(life: Life, step: str, page: int, together: Together, looked: float, again: bool) -> bool:
    """See whether all members of a page are done, and whether it was the last page. Return whether all members of the
    step are done."""
    if not await _page_is_done(life, step, page):
        return False
    for follower, edge in life.followers[step]:
        if edge.by == "page":
            await _start_member(life, follower, page, edge, looked, again)
    pages = len(await life.pages(step))
    if pages == 1:
        return True
    await life.write(names.full(life.id, step, page), b"")
    return await together.count_up(names.page_count(life.id, step)) >= pages and await life.is_covered(step)


async def _page_is_done(life: Life, step: str, page: int) -> bool:
    size = (await life.pages(step))[page]
    for pause in _PAUSES:
        short = size - len(await life.done(step, page))
        if short <= 0:
            return True
        if short > _SHORT or not pause:
            break
        await asyncio.sleep(pause)
    return False


async def go_on(life: Life, step: str, *, looked: float, again: bool = False) -> None:
    """Start what waits for the whole of `step`, whose members are all done, and nothing else. See `advance`."""
    waiting, covered = deque([step]), {step}
    while waiting:
        name = waiting.popleft()
        for follower, edge in life.followers[name]:
            if edge.by in WHOLE and await _may_start(life, follower, covered):
                if await start(life, follower, looked=looked, again=again) and follower not in covered:
                    covered.add(follower)
                    waiting.append(follower)
    await _end_if_done(life, covered)


async def _may_start(life: Life, name: str, covered: set[str]) -> bool:
    """Return whether all is done that the step waits for as a whole."""
    for edge in life.plan.steps[name].edges:
        if edge.by in WHOLE and edge.source not in covered and not await life.is_covered(edge.source):
            return False
    return True


async def start(life: Life, name: str, *, looked: float, again: bool = False) -> bool:
    """Start the members of a step that may begin, where all is done that the step waits for as a whole. Return whether
    the step is done by that, because it has no members. See `advance`."""
    step = life.plan.steps[name]
    members = await measure(life, name)
    partly = [edge for edge in step.edges if edge.by not in WHOLE]
    if partly:
        for member in sorted(set.intersection(*[await _parts(life, edge) for edge in partly])):
            await start_one(life, name, member, looked=looked, again=again)
    elif members == 1:
        await start_one(life, name, 0, looked=looked, again=again)
    else:
        await _refuse(life, name, await feed(life, name, looked=looked, again=again))
    return members == 0


async def feed_window(life: Life, name: str) -> None:
    """Store as many members of a step as its window lets. Raises as `fire` does."""
    # If nobody has noted the first of them, they may have been stored at any time before.
    await _refuse(life, name, await feed(life, name, looked=0.0))


async def start_one(life: Life, name: str, member: int, *, looked: float, again: bool = False) -> None:
    """Store the job of one member. A member whose job is refused for good has failed, and so has one that is to take
    an item of what is no list. Raises what an enqueue raises."""
    try:
        refused = await fire(life, name, member, looked=looked, again=again)
    except NoItems as error:
        await fail(life, Failure(name, member, "bad-arguments", "jetq.WorkflowError", str(error)))
    else:
        await _refuse(life, name, refused)


async def _refuse(life: Life, name: str, refused: list[Refused]) -> None:
    for each in refused:
        await fail(life, Failure(name, each.member, each.reason, "", each.message))


async def _parts(life: Life, edge: Edge) -> set[int]:
    """Return the members or pages of the source that are done."""
    sizes, done = await life.pages(edge.source), set[int]()
    for page, size in enumerate(sizes):
        members = await life.done(edge.source, page)
        if edge.by == "each":
            done |= members
        elif len(members) >= size:
            done.add(page)
    return done


async def _start_member(life: Life, name: str, member: int, by: Edge, looked: float, again: bool) -> None:
    """Start one member of a step, if all else that it waits for is done as well as what `by` says. See `advance`."""
    for edge in life.plan.steps[name].edges:
        if edge is by:
            continue
        if edge.by in WHOLE:
            if not await life.is_covered(edge.source):
                return
        elif edge.by == "each":
            page, _ = await life.page_of(edge.source, member)
            if member not in await life.done(edge.source, page):
                return
        elif len(await life.done(edge.source, member)) < (await life.pages(edge.source))[member]:
            return
    await start_one(life, name, member, looked=looked, again=again)


async def _end_if_done(life: Life, covered: set[str]) -> None:
    if life.plan.last() is not None or not any(edge.source in covered for edge in life.plan.value):
        return
    for edge in life.plan.value:
        if edge.source not in covered and not await life.is_covered(edge.source):
            return
    await end(life)


async def measure(life: Life, step: str) -> int:
    """Return how many members a step has, all of whose sources are done; store it if the plan does not say it."""
    known = await life.members(step)
    if known is not None:
        return known
    (edge,) = (edge for edge in life.plan.steps[step].edges if edge.by == "items")
    if life.plan.steps[edge.source].many:
        found = await life.members(edge.source)
        assert found is not None
    else:
        try:
            found = len(await items_of(life, edge))
        except NoItems:
            found = 1  # one member takes the place of all, and fails when it is started
    await life.write(names.size(life.id, step), str(found).encode())
    members = await life.members(step)
    assert members is not None
    return members


async def fail(life: Life, failure: Failure) -> None:
    """Mark a member as failed that no worker has, and do what the mark sets off."""
    mark = await mark_failure(life, failure)
    if mark is not None:
        looked = life.broker.now()
        await go_on_from(life, failure.step, failure.index, mark, _Alone(life), looked=looked, again=True)


def sets_little_off(life: Life, step: str) -> bool:
    """Return whether the mark of each member is counted and sets nothing else off, but that of a page's last."""
    planned = life.plan.steps[step]
    if planned.callback is not None or planned.window is not None or step == life.plan.last():
        return False
    if life.members_at_hand(step) == 1:
        return False
    return not any(edge.by == "each" for _, edge in life.followers[step])


async def go_on_from(
    life: Life,
    step: str,
    member: int,
    mark: Mark,
    together: Together,
    *,
    looked: float,
    again: bool,
    counted: int | None = None,
    called: int = 0,
) -> None:
    """Do what the mark sets off that stands of a member. See `advance`. called: of one that failed; see
    `give_verdict`."""
    if mark == "bad" and not life.plan.steps[step].tolerates:
        await settle_failure(life, step, member, called)
    else:
        await advance(life, step, member, together, looked=looked, again=again, counted=counted)


async def settle_failure(life: Life, step: str, member: int, called: int = 0) -> None:
    """Note that the workflow has failed because of a member whose failure stands, and call back. `called`: see
    `give_verdict`."""
    if life.plan.steps[step].callback is None and await give_verdict(life, step, member, called):
        await call_back(life)

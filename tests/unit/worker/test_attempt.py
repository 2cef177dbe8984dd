"""An attempt that is being ended: which of several ends counts, and how often its code is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import cast

import pytest

from jetq.model.job import Delivery
from jetq.model.outcome import Cancelled, Released
from jetq.worker.attempt import INSIST_AFTER, Attempt, Ending, outcome_without_run

pytestmark = pytest.mark.anyio

ENDS: dict[Ending, Callable[[Attempt], object]] = {
    "timeout": lambda attempt: attempt.time_out(0.0),
    "release": Attempt.release,
    "cancel": Attempt.cancel,
}
"""Every way to end an attempt, the weakest first."""


def an_attempt() -> Attempt:
    return Attempt(cast(Delivery, object()))


@pytest.mark.parametrize("ways", [ways for n in (1, 2, 3) for ways in itertools.permutations(ENDS, n)], ids=str)
def test_the_strongest_end_counts_in_whatever_order_they_came(ways: tuple[Ending, ...]) -> None:
    attempt = an_attempt()
    for way in ways:
        ENDS[way](attempt)
    assert attempt.ending == max(ways, key=list(ENDS).index)
    assert attempt.cancelled == attempt.cancel_signal.given == ("cancel" in ways)


def test_one_that_goes_on_is_told_twice_and_then_given_up() -> None:
    attempt = an_attempt()
    assert not attempt.time_out(now=100.0)
    assert attempt.deadline == 100.0 + INSIST_AFTER
    assert not attempt.time_out(now=105.0)
    assert attempt.time_out(now=110.0)


async def test_what_waits_is_not_begun_for_one_that_was_ended_before() -> None:
    begun: list[bool] = []

    async def turn() -> None:
        begun.append(True)

    attempt = an_attempt()
    attempt.release()
    assert not await attempt.wait(turn())
    assert not begun


@pytest.mark.parametrize(("end", "outcome"), [(Attempt.release, Released()), (Attempt.cancel, Cancelled())])
async def test_one_that_is_ended_while_it_waits_goes_on_as_if_nobody_had_cancelled_its_runner(
    end: Callable[[Attempt], None], outcome: Cancelled | Released
) -> None:
    attempt, turn = an_attempt(), asyncio.Event()

    async def run() -> tuple[bool, int]:
        attempt.runner = asyncio.current_task()
        asyncio.get_running_loop().call_soon(end, attempt)
        waited = await attempt.wait(turn.wait())
        assert attempt.runner is not None
        return waited, attempt.runner.cancelling()

    assert await asyncio.create_task(run()) == (False, 0)
    assert not attempt.interruptible
    assert outcome_without_run(attempt.ending) == outcome


async def test_who_cancels_all_tasks_is_not_taken_for_the_end_of_the_job() -> None:
    attempt = an_attempt()
    runner = asyncio.create_task(attempt.wait(asyncio.Event().wait()))
    asyncio.get_running_loop().call_soon(runner.cancel)
    with pytest.raises(asyncio.CancelledError):
        await runner
    assert attempt.ending is None

"""How many more jobs a worker may start: by its slots, by `max_jobs`, and by what holds no slot."""

from __future__ import annotations

import time

import pytest

from jetq.model.job import Delivery
from jetq.worker.attempt import Attempt
from jetq.worker.slots import WorkerSlots

pytestmark = pytest.mark.anyio

SLOTS = 4


def attempt(*, count: int = 1, schedule: str = "") -> Attempt:
    given = Delivery("q", "t", "-", "id", b"{}", {}, 1, count, time.time(), 0.0, "token", "address", schedule=schedule)
    return Attempt(given)


def slots_of(max_jobs: int | None = None, slotless: int = 0) -> WorkerSlots:
    return WorkerSlots(SLOTS, max_jobs, lambda: slotless)


async def test_a_slot_is_taken_and_given_back() -> None:
    slots = slots_of()
    assert slots.free() == SLOTS and slots.idle.is_set()
    held = [attempt() for _ in range(SLOTS)]
    for each in held:
        slots.take(each)
    assert slots.free() == 0 and slots.attempts == set(held) and not slots.idle.is_set()
    for each in held:
        slots.give(each)
    assert slots.free() == SLOTS and slots.idle.is_set()


async def test_no_more_jobs_are_taken_than_may_be_in_all_and_those_held_may_go_on() -> None:
    slots = slots_of(max_jobs=2)
    assert (slots.free(), slots.room()) == (2, SLOTS)
    slots.take(attempt())
    slots.take(last := attempt())
    slots.give(last)
    assert slots.exhausted and (slots.free(), slots.room()) == (0, SLOTS - 1)


async def test_a_tick_and_what_is_given_back_are_none_of_the_jobs_that_may_be_taken() -> None:
    slots = slots_of(max_jobs=1)
    slots.take(attempt(schedule="nightly"))
    returned = attempt()
    returned.release()
    slots.take(returned)
    assert not slots.exhausted and slots.free() == 1


async def test_what_waits_at_a_limit_or_is_being_stored_holds_no_slot() -> None:
    slots = slots_of(slotless=2)
    for _ in range(SLOTS):
        slots.take(attempt())
    assert slots.free() == 2


async def test_of_suspects_only_one_holds_a_slot_and_no_more_than_there_are_slots_hold_none() -> None:
    slots = slots_of()
    suspects = [attempt(count=2) for _ in range(3)]
    for each in suspects:
        slots.take(each)
    assert slots.free() == SLOTS - 1
    for _ in range(SLOTS):
        slots.take(attempt(count=2))
    assert slots.free() == SLOTS - 3  # 7 are held, 4 of them without a slot
    for each in suspects:
        slots.give(each)
    assert slots.free() == SLOTS - 1


async def test_closed_slots_are_free_for_nobody_until_they_are_opened() -> None:
    slots = slots_of(slotless=100)
    slots.admit(False)
    assert slots.closed and slots.free() < 0
    slots.admit(True)
    assert not slots.closed and slots.free() == SLOTS + 100

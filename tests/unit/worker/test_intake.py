"""Which queue is asked for how many jobs, by a worker that serves several."""

from __future__ import annotations

import time

from jetq.model.job import Delivery
from jetq.worker.attempt import Attempt
from jetq.worker.intake import Intake

SLOTS = 100


class Requests:
    """A feed that writes down for how many it was asked."""

    problem = None

    def __init__(self) -> None:
        self.asked = 0
        self.left: int | None = None

    def ask(self, slots: int) -> None:
        self.asked = max(self.asked, slots)

    def expect(self, by: str | None) -> None: ...

    async def stop(self) -> None: ...


def intake_of(**feeds: Requests) -> Intake:
    intake = Intake(SLOTS, {}, ahead=True)
    for queue, feed in feeds.items():
        intake.open(queue, {"normal": feed}, None)
    return intake


def hand_out(intake: Intake, queue: str, feed: Requests, *, left: int) -> None:
    """A job of `queue` arrives, behind which so many are left."""
    feed.asked -= 1
    feed.left = left
    now = time.time()
    delivery = Delivery(queue, "t.x", "-", f"id-{left}", b"{}", {}, 1, 1, now, time.monotonic(), "token", "address")
    assert intake.arrived(Attempt(delivery), True)


def test_busy_queues_share_the_slots() -> None:
    a, b = Requests(), Requests()
    intake = intake_of(a=a, b=b)
    intake.ask(SLOTS)
    assert (a.asked, b.asked) == (1, 1)  # who has work is not known yet
    hand_out(intake, "a", a, left=1000)
    hand_out(intake, "b", b, left=1000)
    intake.ask(SLOTS)
    assert a.asked + b.asked == SLOTS
    assert abs(a.asked - b.asked) <= 1


def test_a_queue_that_has_said_it_is_empty_keeps_no_slot_from_another() -> None:
    a, b = Requests(), Requests()
    intake = intake_of(a=a, b=b)
    intake.ask(SLOTS)
    hand_out(intake, "a", a, left=1000)
    hand_out(intake, "b", b, left=1000)
    intake.ask(SLOTS)
    hand_out(intake, "a", a, left=0)
    for _ in range(b.asked):
        hand_out(intake, "b", b, left=500)
    assert (a.asked, b.asked) == (SLOTS // 2 - 1, 0)
    intake.ask(SLOTS)
    assert b.asked == SLOTS


def test_an_empty_queue_that_gets_jobs_again_takes_part_again() -> None:
    a, b = Requests(), Requests()
    intake = intake_of(a=a, b=b)
    intake.ask(SLOTS)
    hand_out(intake, "a", a, left=0)
    hand_out(intake, "b", b, left=1000)
    intake.ask(SLOTS)
    assert (a.asked, b.asked) == (1, SLOTS - 1)
    hand_out(intake, "a", a, left=1000)
    for _ in range(b.asked):
        hand_out(intake, "b", b, left=500)
    intake.ask(SLOTS)
    assert abs(a.asked - b.asked) <= 1

"""`jetq.testing`: what users' tests can see of what was enqueued."""

from __future__ import annotations

from datetime import date

import pytest

from jetq import ArgumentError
from jetq.testing import AppTester
from tests.unit.testing.tasks import add, book, failing


def test_what_is_enqueued_can_be_asserted(jobs: AppTester) -> None:
    add.delay(1)
    add.delay(2, y=5)
    book.delay(date(2026, 12, 24), "Ada", nights=3)

    assert jobs.assert_enqueued(add).arguments == {"x": 1, "y": 1}
    assert jobs.assert_enqueued(add, y=5).arguments == {"x": 2, "y": 5}
    assert jobs.assert_enqueued("testing.add", x=1, y=1).queue == "default"
    booked = jobs.assert_enqueued(book, day=date(2026, 12, 24), guests=("Ada",), extras={"nights": 3})
    assert (booked.queue, booked.due, booked.state) == ("travel", None, "queued")
    jobs.assert_not_enqueued(add, x=3)
    jobs.assert_not_enqueued(failing)
    assert [job.arguments["x"] for job in jobs.enqueued(add)] == [1, 2]
    assert len(jobs.enqueued()) == 3
    assert len(jobs.enqueued(y=5)) == 1


def test_a_failed_assertion_says_what_is_there(jobs: AppTester) -> None:
    with pytest.raises(AssertionError, match=r"no job testing\.add\(\) is enqueued; enqueued:\n  nothing"):
        jobs.assert_enqueued(add)
    add.delay(1)

    with pytest.raises(AssertionError, match=r"add\(x=2\) is enqueued; enqueued:\n  testing\.add\(x=1, y=1\) in queue"):
        jobs.assert_enqueued(add, x=2)
    with pytest.raises(AssertionError, match=r"enqueued: testing\.add\(x=1, y=1\)"):
        jobs.assert_not_enqueued(add, x=1)
    with pytest.raises(ArgumentError, match=r"testing\.add\(x: int, y: int = 1\) -> int has no parameter 'z'"):
        jobs.assert_not_enqueued(add, z=1)


def test_jobs_sent_without_their_code_are_seen_as_json(jobs: AppTester) -> None:
    jobs.app.send("billing.charge", {"amount": 3}, queue="billing")

    job = jobs.assert_enqueued("billing.charge", amount=3)

    assert (job.queue, job.arguments) == ("billing", {"amount": 3})

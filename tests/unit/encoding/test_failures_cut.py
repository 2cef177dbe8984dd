"""Failures and dead letters made to fit: what is cut, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq.encoding.failures import bounded, fit, summarize
from jetq.encoding.headers import job_headers
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import AttemptError, Failure
from jetq.model.job import JobRecord, Meta, Place
from jetq.operations.dead_letters import revived
from tests.unit.encoding.test_failures import size


def test_a_summary_is_one_short_message() -> None:
    error = summarize(Failure(type="t", message="m" * 900), 2, 1.5, "w")
    assert (error.attempt, error.type, error.at, error.worker) == (2, "t", 1.5, "w")
    assert len(error.message) <= 300


def attempt_error(number: int, message: str = "m", type: str = "t") -> AttemptError:
    return AttemptError(attempt=number, type=type, message=message, at=1.7e9, worker="worker-1234-abcd")


def test_the_first_and_the_last_nine_errors_are_kept() -> None:
    errors: tuple[AttemptError, ...] = ()
    dropped = 0
    for number in range(1, 31):
        errors, gone = bounded(errors, attempt_error(number))
        dropped += gone
    assert [error.attempt for error in errors] == [1, *range(22, 31)]
    assert dropped == 20


texts = st.text(alphabet=st.sampled_from('a\x00\n"é\U0001f600'), max_size=300)


@given(st.lists(st.tuples(texts, st.text(max_size=200)), min_size=1, max_size=10), st.integers(20, 300))
def test_errors_that_travel_stay_small(raw: list[tuple[str, str]], length: int) -> None:
    made = [attempt_error(n, (text * 300)[:length], type) for n, (text, type) in enumerate(raw, 1)]
    kept, dropped = bounded(made[:-1], made[-1])
    assert size(kept) <= 6_000
    assert len(kept) + dropped == len(made)
    assert (kept[0].attempt, kept[-1].attempt) == (made[0].attempt, made[-1].attempt)


def letter(**changes: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "id": "0190f0e0c0de0123456789abcdef",
        "task": "tasks.add",
        "queue": "default",
        "key": "-",
        "reason": "failed",
        "failure": Failure(type="builtins.ValueError", message="the cause", traceback="Traceback ..."),
        "attempt": 3,
        "at": 1.7e9,
        "enqueued": 1.7e9,
        "address": "jetq.default.run.tasks:add.-.0190",
        "sequence": 12,
    }
    return DeadLetter(**fields | changes)


def test_a_letter_that_fits_is_left_alone() -> None:
    one = letter(headers={"Jetq": "{}"})
    assert fit(one, 32_000) is one


@pytest.mark.parametrize("limit", [1_500, 4_000, 8_000, 16_000, 30_000])
@pytest.mark.parametrize("filler", ["a", "\x00", "\U0001f600", '"'])
def test_a_letter_is_made_to_fit(limit: int, filler: str) -> None:
    """Guarantee: a dead letter is never too large to be written."""
    failure = Failure(
        type="builtins.ValueError", message=filler * 2_000, traceback=filler * 16_000, args=(filler * 1_900,)
    )
    large = letter(
        failure=failure,
        headers={"X-Big": filler * 9_000, "X-Small": "s", "Jetq": filler * 6_000},
        errors=tuple(attempt_error(number, filler * 300) for number in range(1, 11)),
        errors_dropped=7,
    )
    short = fit(large, limit)
    assert size(short) <= limit
    assert (short.id, short.sequence, short.address) == (large.id, large.sequence, large.address)
    assert short.failure.message
    assert short.errors_dropped + len(short.errors) == 17


def test_the_message_outlives_the_traceback() -> None:
    failure = Failure(type="t", message="the cause " * 150, traceback="t" * 16_000)
    short = fit(letter(failure=failure, headers={"X": "h" * 8_000}), 3_000)
    assert short.failure.message == failure.message
    assert not short.headers


def test_the_floor_below_which_nothing_can_be_cut() -> None:
    assert size(fit(letter(headers={"X": "h" * 8_000}, errors=(attempt_error(1),)), 1)) < 600


def test_the_place_in_a_workflow_is_never_cut() -> None:
    """Guarantee: a member whose letter finds little room is a member when it is replayed."""
    place = Place("weekly-48", "cpu", "0192abcdef", "fetch", 7, 1000, 3, 1.8e9, 12, 1.7e9)
    meta = Meta(max_attempts=3, errors=(attempt_error(1, "e" * 3_000),), flow=place)
    headers = job_headers(JobRecord("j", "tasks.add", "default", b"{}", meta=meta))
    short = fit(letter(headers={"X": "h" * 8_000, **headers}), 1)
    assert size(short) < 800
    assert revived(DeadEntry(short, b"{}", 1)).meta.flow == place

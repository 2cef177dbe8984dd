"""The checker of the chaos runs finds what it is there to find."""

from __future__ import annotations

from tests.apps.ledger import Entry
from tests.faults.chaos.checker import Attempt, Disturbance, Verdict, check

LEASE = 4.0


def verdict(
    *attempts: Attempt,
    entries: list[Entry] | None = None,
    dead: set[str] | None = None,
    standing: set[str] | None = None,
    disturbances: list[Disturbance] | None = None,
) -> Verdict:
    return check(
        attempts,
        entries or [],
        dead=dead or set(),
        standing=standing or set(),
        doomed={"doomed"},
        disturbances=disturbances or [],
        lease=LEASE,
    )


def ran(id: str, at: float, *, pid: int = 1, attempt: int = 1, finished: bool = True) -> list[Entry]:
    events = ["start", "finish"] if finished else ["start"]
    return [Entry(event, 0, attempt, pid, at, id) for event in events]


STORED = Attempt("a", 0, "quick", "stored")


def test_a_job_that_finished_or_died_as_it_should_is_all_right() -> None:
    found = verdict(STORED, Attempt("b", 1, "doomed", "stored"), entries=ran("a", 10.0), dead={"b"})
    assert (found.ok, found.dead, found.holds) == (1, 1, True)


def test_a_stored_job_that_left_no_trace_is_lost() -> None:
    found = verdict(STORED, Attempt("b", 1, "quick", "unknown"), Attempt("c", 2, "quick", "rejected"))
    assert found.lost == ["a of quick"]
    assert (found.never, found.rejected, found.holds) == (1, 1, False)
    started = verdict(STORED, entries=ran("a", 10.0, finished=False))
    assert started.lost == ["a of quick"]


def test_one_that_nobody_knew_to_be_stored_may_have_run() -> None:
    found = verdict(Attempt("a", 0, "quick", "unknown"), entries=ran("a", 10.0))
    assert (found.recovered, found.holds) == (1, True)


def test_what_is_done_and_stands_is_left_by_a_kill_of_the_server_alone() -> None:
    killed = Disturbance("server killed", 0, 12.0, 13.0)
    found = verdict(STORED, entries=ran("a", 10.0), standing={"a"}, disturbances=[killed])
    assert (found.ok, found.left, found.holds) == (1, 1, True)
    assert not verdict(STORED, entries=ran("a", 20.0), standing={"a"}, disturbances=[killed]).holds
    assert not verdict(STORED, standing={"a"}, disturbances=[killed]).holds
    assert not verdict(STORED, entries=ran("a", 10.0), standing={"a"}).holds


def test_what_should_not_be_there_is_unexpected() -> None:
    rejected = Attempt("b", 1, "quick", "rejected")
    found = verdict(STORED, rejected, entries=[*ran("b", 10.0), *ran("c", 11.0)], dead={"a"})
    assert sorted(found.unexpected) == [
        "a of quick is dead",
        "b was rejected, and is there all the same",
        "c was never enqueued",
    ]
    assert verdict(STORED, standing={"a"}).unexpected == ["a of quick was not run in time"]


def test_a_second_run_is_doubled_unless_something_allows_it() -> None:
    twice = [*ran("a", 10.0, pid=1), *ran("a", 12.0, pid=2)]
    assert len(verdict(STORED, entries=twice).doubled) == 1
    of_the_other = Disturbance("worker killed", 2, 10.5, 10.5)
    before = Disturbance("worker killed", 1, 5.0, 5.0)
    after = Disturbance("server killed", 0, 12.5, 13.0)
    long_before = Disturbance("server killed", 0, 3.0, 5.5)
    assert len(verdict(STORED, entries=twice, disturbances=[of_the_other, before, after, long_before]).doubled) == 1
    for allowed in (
        Disturbance("worker killed", 1, 10.5, 10.5),
        Disturbance("worker paused", 1, 9.0, 10.2),
        Disturbance("server killed", 0, 11.0, 12.0),
    ):
        found = verdict(STORED, entries=twice, disturbances=[allowed])
        assert (found.repeated.total(), found.doubled) == (1, [])


def test_the_next_attempt_is_no_second_run() -> None:
    attempts = [*ran("a", 10.0, finished=False), *ran("a", 11.0, attempt=2)]
    assert verdict(STORED, entries=attempts).holds

"""The checker of the chaos runs finds what it is there to find."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from tests.apps.ledger import Entry
from tests.faults.chaos.checker import Attempt, Disturbance, Letter, Repeat, Verdict, check

LEASE = 4.0


def verdict(
    *attempts: Attempt,
    repeats: Sequence[Repeat] = (),
    entries: list[Entry] | None = None,
    dead: Collection[str] | Mapping[str, Letter] = (),
    standing: set[str] | None = None,
    disturbances: list[Disturbance] | None = None,
) -> Verdict:
    return check(
        attempts,
        repeats,
        entries or [],
        dead=dead if isinstance(dead, Mapping) else dict.fromkeys(dead, Letter(10.0)),
        standing=standing or set(),
        doomed={"doomed"},
        disturbances=disturbances or [],
        lease=LEASE,
    )


def ran(
    id: str, at: float, *, n: int | None = None, pid: int = 1, attempt: int = 1, finished: bool = True, data: str = ""
) -> list[Entry]:
    """Number n; without one that of its place in the alphabet."""
    events = ["start", *([f"body:{data}"] if data else []), *(["finish"] if finished else [])]
    return [Entry(event, ord(id) - ord("a") if n is None else n, attempt, pid, at, id) for event in events]


STORED = Attempt("a", 0, "quick", "stored")
BIG = Attempt("a", 0, "big", "stored", digest="d1")


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
    again = [*ran("a", 10.0), *ran("a", 20.0)]
    assert verdict(STORED, entries=again, standing={"a"}, disturbances=[killed]).left == 1
    doomed = Attempt("a", 0, "doomed", "stored")
    found = verdict(doomed, dead={"a"}, standing={"a"}, disturbances=[killed])
    assert (found.dead, found.left, found.holds) == (1, 1, True)
    assert not verdict(doomed, dead={"a": Letter(20.0)}, standing={"a"}, disturbances=[killed]).holds
    assert not verdict(STORED, entries=ran("a", 20.0), standing={"a"}, disturbances=[killed]).holds
    assert not verdict(STORED, standing={"a"}, disturbances=[killed]).holds
    assert not verdict(STORED, entries=ran("a", 10.0), standing={"a"}).holds


def test_what_should_not_be_there_is_unexpected() -> None:
    entries = [*ran("b", 10.0), *ran("b", 10.0, n=7)]
    found = verdict(STORED, Attempt("b", 1, "quick", "stored"), entries=[*entries, *ran("c", 11.0)], dead={"a", "d"})
    assert sorted(found.unexpected) == [
        "a of quick is dead",
        "b was never enqueued with number 7",
        "c was never enqueued",
        "d was never enqueued",
    ]
    assert verdict(STORED, standing={"a"}).unexpected == ["a of quick was not run in time"]


def test_what_was_surely_not_stored_must_be_nowhere() -> None:
    """Also not where a job of its task should be."""
    ghost = Attempt("a", 0, "doomed", "rejected", ("NotSent",))
    for found, where in (
        (verdict(ghost, entries=ran("a", 10.0, finished=False)), "ran"),
        (verdict(ghost, dead={"a"}), "is dead"),
        (verdict(ghost, standing={"a"}), "stands"),
    ):
        assert found.unexpected == [f"a was surely not stored (NotSent), and {where}"]
        assert (found.rejected, found.dead) == (0, 0)
    assert verdict(ghost).rejected == 1


def test_large_data_must_arrive_as_it_was_sent() -> None:
    changed = ["a of big arrived with other data than it was sent with"]
    found = verdict(BIG, entries=ran("a", 10.0, data="d1"))
    assert (found.large, found.holds) == (1, True)
    assert verdict(BIG, entries=ran("a", 10.0, data="d2")).unexpected == changed
    assert verdict(BIG, entries=ran("a", 10.0)).unexpected == changed
    both = [*ran("a", 10.0, data="d1", finished=False), *ran("a", 11.0, attempt=2, data="d2")]
    assert verdict(BIG, entries=both).unexpected == changed


def test_large_data_of_dead_letters_is_that_which_was_sent() -> None:
    doomed = Attempt("a", 0, "doomed", "stored", digest="d1")
    started = ran("a", 10.0, finished=False, data="d1")
    assert verdict(doomed, entries=started, dead={"a": Letter(10.0, "d1")}).holds
    assert not verdict(doomed, entries=started, dead={"a": Letter(10.0, "d2")}).holds
    assert not verdict(doomed, dead={"a": Letter(10.0, "d2")}).holds


@pytest.mark.parametrize(
    ("repeat", "then", "said"),
    [
        (Repeat("a", 9, "stored", "existing", 11.0), [], ""),
        (Repeat("a", 9, "stored", "new", 21.0), [(22.0, 9)], ""),
        (Repeat("a", 9, "unknown", "NotStored", 11.0), [(22.0, 9)], ""),
        (Repeat("a", 9, "stored", "existing", 11.0), [(15.0, 9)], "ran while the first stood or ran"),
        (Repeat("a", 9, "stored", "existing", 11.0), [(22.0, 9)], "was stored while the first stood or ran"),
        (Repeat("a", 9, "stored", "new", 11.0), [(22.0, 9)], "was stored while the first stood or ran"),
        (Repeat("a", 9, "unknown", "NotStored", 11.0), [(15.0, 9)], "ran while the first stood or ran"),
        (Repeat("a", 9, "rejected", "NotSent", 11.0), [(22.0, 9)], "was surely not stored, and ran"),
    ],
)
def test_a_repeat_of_an_id_that_stands_or_runs_changes_nothing(
    repeat: Repeat, then: list[tuple[float, int]], said: str
) -> None:
    first = [Entry("start", 0, 1, 1, 10.0, "a"), Entry("finish", 0, 1, 1, 20.0, "a")]
    entries = [*first, *(entry for at, n in then for entry in ran("a", at, n=n))]
    entries.sort(key=lambda entry: entry.at)
    found = verdict(STORED, repeats=[repeat], entries=entries)
    assert found.unexpected == ([f"the repeat 9 of a ({repeat.word}) {said}"] if said else [])
    assert found.again == (not then)
    assert found.doubled == []


def test_a_repeat_that_was_new_must_run() -> None:
    repeat = Repeat("a", 9, "stored", "new", 11.0)
    assert verdict(STORED, repeats=[repeat], entries=ran("a", 10.0)).lost == ["the repeat 9 of a (new)"]


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


def test_two_workers_may_hold_a_suspect_for_as_long_as_it_waits_for_its_turn() -> None:
    """The first worker dies, the server forgets to whom it gave the job next, and two workers have it from then on."""
    killed, forgot = Disturbance("worker killed", 1, 10.5, 10.5), Disturbance("server killed", 0, 11.0, 12.0)
    thrice = [*ran("a", 10.0, pid=1, finished=False), *ran("a", 30.0, pid=2), *ran("a", 32.0, pid=3)]
    found = verdict(STORED, entries=thrice, disturbances=[killed, forgot])
    assert (found.repeated, found.doubled) == ({"worker killed": 1, "server killed": 1}, [])
    assert len(verdict(STORED, entries=thrice, disturbances=[killed]).doubled) == 1
    before = Disturbance("server killed", 0, 3.0, 5.5)  # forgets nothing of a job that is started later
    assert len(verdict(STORED, entries=thrice, disturbances=[killed, before]).doubled) == 1


def test_the_next_attempt_is_no_second_run() -> None:
    attempts = [*ran("a", 10.0, finished=False), *ran("a", 11.0, attempt=2)]
    assert verdict(STORED, entries=attempts).holds

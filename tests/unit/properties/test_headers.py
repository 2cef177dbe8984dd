"""Whoever writes a job, a dead letter or a schedule anew hands on what it has no name for, or refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from jetq import Jetq, NewerVersion
from jetq.encoding.headers import (
    WIRE_VERSION,
    BadHeader,
    NewerHeader,
    job_headers,
    letter_header,
    meta_to_rewrite,
    moved_headers,
    read_letter,
    read_meta,
)
from jetq.encoding.schedules import encode_record, read_record
from jetq.encoding.sealer import Sealer
from jetq.memory import MemoryBroker
from jetq.model.cell import Cell
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.extended import Extended
from jetq.model.failure import AttemptError, Failure
from jetq.model.job import Delivery, JobRecord, Meta, Place, replacing_meta
from jetq.model.names import check_job_id
from jetq.model.outcome import Dead, InLine, Needs, Outcome, PutOff, Released, Retrying, Snoozed, Succeeded
from jetq.model.oversized import Kept, read_kept, write_kept
from jetq.model.schedule import ScheduleRecord
from jetq.operations.dead_letter_files import read_line, write_line
from jetq.operations.dead_letters import check_readable, edited, revived
from jetq.operations.schedules import _continued
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.handover import Handover
from jetq.worker.attempts.loading import Loader
from jetq.worker.attempts.settlement import Settlement
from jetq.worker.leases import Leases
from jetq.worker.schedules.ticks import job_of_tick
from tests.unit.properties.examples import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def strange(kind: type[Extended]) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that a newer version may have added to `kind`."""
    known = {each.encode_name for each in fields(kind)}
    return st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name not in known), JSON, max_size=3)


ERRORS = st.lists(
    st.builds(lambda more: {"attempt": 1, "type": "t", "message": "m", "at": 1.0, **more}, strange(AttemptError)),
    max_size=2,
)
NAMES = st.text("abz0-_:é", min_size=1, max_size=12)
COUNTS = st.integers(0, 2**31 - 1)
TIMES = st.floats(0, 2.5e11)
PLACES = st.tuples(
    NAMES, NAMES, NAMES, NAMES, COUNTS, COUNTS, COUNTS, TIMES, st.integers(0, 2**64 - 1), TIMES, st.booleans()
).map(list)
HEADERS = st.builds(
    lambda more, errors, attempt, place: {
        **({"v": 2, "flow": place} if place else {}),
        "attempt": attempt,
        **({"errors": errors} if errors else {}),
        **more,
    },
    strange(Meta),
    ERRORS,
    st.integers(1, 3),
    st.none() | PLACES,
)
"""What the `Jetq` header says, as JSON."""

NEWER = WIRE_VERSION + 1

BAD_NAMES = ("", "a.b", "*", "a*", ">", "a b", "a\tb", "a\nb", "\x00", "\x1f", "\x7f", "\x85", "\u2028")
"""What may not be a token of a subject."""

FAILURE = Failure(type="builtins.ValueError", message="no")


def says_all_of(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a header still has each field of `given` that this version has no name for, also those of its errors, and
    the place in a workflow with its version; no version without a place."""
    found, known = json.loads(text), {each.encode_name for each in fields(Meta)}
    strangers = {name: value for name, value in given.items() if name not in known or name in ("flow", "v")}
    if "flow" not in given and "v" in found:
        return False
    return _includes(found, strangers) and all(
        any(_includes(each, {**error}) for each in found["errors"]) for error in given.get("errors", ())
    )


def _includes(found: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    return all(name in found and found[name] == value for name, value in given.items())


class Held:
    """Leases that hold for ever."""

    def valid(self, delivery: Delivery) -> bool:
        return True

    def bound(self, delivery: Delivery) -> asyncio.Timeout:
        return asyncio.timeout(None)

    def unbound(self, bound: asyncio.Timeout) -> None:
        pass

    def drop(self, delivery: Delivery) -> None:
        pass


JOB = JobRecord(id="job", task="tasks.f", queue="email", body=b'{"x": 1}')


class NoLedger:
    """Ends members without a mark: what they leave in the ledger is no part of these headers."""

    def send(self, attempt: Attempt, outcome: Succeeded, on_done: Callable[[bool], None]) -> bool:
        return False

    async def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        pass

    async def lapsed(self, attempt: Attempt) -> None:
        pass


async def settled(text: str, outcome: Outcome, kept: Kept | None = None) -> Mapping[str, str] | DeadEntry:
    """The headers of what stands after a worker settled a job with that header, or its dead letter.

    kept: what was kept beside the job while it was too large to be stored anew.
    """
    broker = MemoryBroker()
    got: list[Delivery] = []
    await broker.enqueue(replace(JOB, as_is={"Jetq": text, "Other": "kept"}))
    feed = await broker.feed("email", got.append)
    feed.ask(1)
    await feed.stop()
    attempt = Attempt(got[0])
    with suppress(BadHeader):
        attempt.meta = read_meta(got[0].headers)
    if kept is not None:
        cell = Cell(f"kept.email.{JOB.id}", write_kept(kept), 1)
        attempt.kept, attempt.meta = (kept, cell), kept.meta
    assert await Settlement(broker, cast(Leases, Held()), "w", NoLedger()).settle(attempt, outcome)
    found = await broker.find("email", "job")
    if found is None:
        (entry,) = await broker.dead("email")
        return entry
    return found.delivery.headers


async def settled_headers(text: str, outcome: Outcome) -> Mapping[str, str]:
    found = await settled(text, outcome)
    assert not isinstance(found, DeadEntry)
    return found


OUTCOMES: list[Outcome] = [
    Retrying(5.0, FAILURE),
    Retrying(0.0, FAILURE, body=b"{}"),
    Snoozed(5.0),
    InLine(5.0, "gate"),
    Released(),
    PutOff(5.0, Needs("tasks.f"), since=1.0),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
@examples(25)
@given(HEADERS)
def test_no_outcome_drops_a_field(outcome: Outcome, header: dict[str, Any]) -> None:
    """Guarantee: a field that a newer jetq of the same wire version adds outlives retries, pauses and lines."""
    headers = asyncio.run(settled_headers(json.dumps(header), outcome))
    assert says_all_of(headers["Jetq"], header)


@pytest.mark.parametrize(
    "outcome", [Released(), PutOff(5.0, Needs("tasks.f", v=NEWER), since=1.0)], ids=["back", "off"]
)
@examples(25)
@given(HEADERS)
def test_what_a_newer_jetq_wrote_goes_back_byte_for_byte(outcome: Outcome, header: dict[str, Any]) -> None:
    """Guarantee: a job of a newer wire version is put off and given back with each byte of its header."""
    text = json.dumps({**header, "attempt": "of another kind", "v": NEWER})
    headers = dict(asyncio.run(settled_headers(text, outcome)))
    headers.pop("Jetq-Off")
    assert headers == {"Jetq": text, "Other": "kept"}


def by_moving(text: str) -> str:
    return moved_headers({"Jetq": text}, 10.0, 20.0)["Jetq"]


def by_debounce(text: str) -> str:
    made = replacing_meta(meta_to_rewrite({"Jetq": text}), Meta(expires=5.0), first=1.0, earlier=0.0)
    return _stored(made)


def by_replay(text: str) -> str:
    return _stored(revived(_dead(text)).meta)


def by_edit(text: str) -> str:
    return _stored(edited(_dead(text), b"{}").meta)


def by_export_and_replay(text: str) -> str:
    return _stored(revived(read_line(write_line(_dead(text)))).meta)


def _stored(meta: Meta) -> str:
    return job_headers(replace(JOB, meta=meta))["Jetq"]


def _dead(text: str) -> DeadEntry:
    entry = asyncio.run(settled(text, Dead(reason="failed", failure=FAILURE)))
    assert isinstance(entry, DeadEntry)
    return entry


def by_enqueueing(text: str) -> str:
    return _stored(read_meta({"Jetq": text}))


def by_staying(text: str) -> str:
    """The job is too large to be stored anew, and its next attempt is kept beside it."""
    kept = read_kept(write_kept(Kept(1, read_meta({"Jetq": text}), 1.0)))
    assert kept is not None
    return _stored(kept.next_meta(read_meta({"Jetq": text})))


WRITERS = [by_moving, by_debounce, by_replay, by_edit, by_export_and_replay]


@pytest.mark.parametrize("write", [*WRITERS, by_enqueueing, by_staying])
@examples(25)
@given(HEADERS)
def test_nobody_who_writes_a_job_anew_drops_a_field(write: Callable[[str], str], header: dict[str, Any]) -> None:
    assert says_all_of(write(json.dumps({"in_line": 5.0, **header})), header)


@pytest.mark.parametrize("write", WRITERS)
def test_nobody_writes_anew_what_only_a_newer_jetq_can_read(write: Callable[[str], str]) -> None:
    """Guarantee: a replay, an edit or another due time refuses what it would drop."""
    with pytest.raises(NewerVersion, match=f"version {NEWER}"):
        write(f'{{"v":{NEWER},"in_line":5,"compensates":[]}}')


def test_what_is_kept_by_a_worker_that_cannot_read_the_header_hides_nothing_of_it() -> None:
    """Guarantee: a job that is too large to be put off keeps its header, also when it goes back."""
    kept = Kept(1, Meta(unknown_since=7.0), 1.0)
    own = Meta(max_attempts=9, flow=PLACE)
    assert kept.next_meta(own) == replace(own, unknown_since=7.0)
    text = f'{{"v":{NEWER},"max_attempts":9}}'
    headers = asyncio.run(settled(text, Released(), kept))
    assert isinstance(headers, Mapping) and headers["Jetq"] == text


def test_what_is_kept_beside_a_job_does_not_hide_its_place_from_the_worker_that_runs_it() -> None:
    app = Jetq()

    @app.task(name="tasks.f")
    def f() -> None: ...

    delivery = Delivery(
        "email", "tasks.f", "-", "job", b"{}", {"Jetq": _stored(Meta(flow=PLACE))}, 1, 2, 1.0, 1.0, "", ""
    )
    attempt = Attempt(delivery)
    kept = Kept(1, Meta(unknown_since=7.0), 1.0)
    attempt.kept = kept, Cell("kept.email.job", write_kept(kept), 1)
    assert Loader(MemoryBroker(), app.tasks, cast(Handover, None), Sealer(None)).recognize(attempt) is None
    assert attempt.meta == Meta(unknown_since=7.0, flow=PLACE)


PLACE = Place("weekly-48", "cpu", "0192abcdef", "fetch", 7, 1000, 3, 1.8e9, 2**40, 1.7e9)


def test_a_plain_job_is_written_as_before_there_were_places() -> None:
    """Guarantee: a job of no workflow has no header, or one without a version, so each jetq reads the job."""
    assert job_headers(JOB) == {}
    assert _stored(Meta(attempt=2)) == '{"attempt":2}'
    assert json.loads(_stored(Meta(attempt=2, flow=PLACE))) == {
        "v": 2, "attempt": 2,
        "flow": ["weekly-48", "cpu", "0192abcdef", "fetch", 7, 1000, 3, 1.8e9, 2**40, 1.7e9, False],
    }  # fmt: skip


def test_a_place_that_was_written_without_its_version_gets_it() -> None:
    text = json.dumps({"flow": json.loads(_stored(Meta(flow=PLACE)))["flow"]})
    assert json.loads(_stored(read_meta({"Jetq": text})))["v"] == 2


def test_a_members_id_is_an_id_of_a_job() -> None:
    assert check_job_id(PLACE.job_id) == "0192abcdef:fetch:7"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: bad} for name in ("workflow", "home", "life", "step") for bad in BAD_NAMES),
        *({name: bad} for name in ("member", "members_of_page", "pages") for bad in (-1, 2**31, 10**400)),
        *({"seen": bad} for bad in (-1, 2**64)),
        *({name: bad} for name in ("deadline", "looked") for bad in (-1.0, 1e300)),
        {"step": "s" * 48},
        {"life": "l" * 53},
        {"workflow": "w" * 257},
        {"home": "h" * 257},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_a_place_that_no_workflow_has_is_a_bad_header(changes: dict[str, Any]) -> None:
    """Guarantee: no header makes a subject of another thing, or a number that cannot be written."""
    with pytest.raises(BadHeader, match=f"{next(iter(changes))} is |member's id has 61 "):
        read_meta({"Jetq": _stored(Meta(flow=replace(PLACE, **changes)))})


@pytest.mark.parametrize("form", ["[]", '["a"]', "{}", "7", '"x"'])
def test_what_is_no_place_is_a_bad_header(form: str) -> None:
    with pytest.raises(BadHeader, match="unreadable"):
        read_meta({"Jetq": f'{{"v":2,"flow":{form}}}'})


def test_a_place_with_more_than_this_version_knows_is_not_read_and_so_not_cut() -> None:
    text = _stored(Meta(flow=PLACE)).replace("false]", "false,1]")
    with pytest.raises(BadHeader, match="unreadable"):
        read_meta({"Jetq": text})


LETTER = {
    "id": "job", "task": "tasks.f", "queue": "email", "key": "-", "reason": "failed",
    "failure": {"type": "t", "message": "m"}, "attempt": 1, "at": 1.0, "enqueued": 1.0,
    "address": "jetq.email.run.tasks:f.-.job", "sequence": 1,
}  # fmt: skip


@examples(50)
@given(strange(DeadLetter), strange(Failure), ERRORS)
def test_a_letter_that_is_moved_says_what_it_said(
    more: dict[str, Any], of_failure: dict[str, Any], errors: list[dict[str, Any]]
) -> None:
    failure = {"type": "t", "message": "m", **of_failure}
    given = {**LETTER, **more, "failure": failure, **({"errors": errors} if errors else {})}
    letter = replace(read_letter(json.dumps(given)), queue="email")
    line = write_line(DeadEntry(letter, b"{}", 1))
    assert json.loads(letter_header(read_line(line).letter)) == given


def test_a_letter_of_a_newer_version_is_neither_replayed_nor_exported() -> None:
    text = json.dumps({**LETTER, "v": NEWER})
    with pytest.raises(NewerHeader):
        read_letter(text)
    standing_in = DeadEntry(replace(read_letter(json.dumps(LETTER)), headers={"Jetq-Letter": text}), b"{}", 1)
    for write in (revived, write_line, check_readable):
        with pytest.raises(NewerVersion, match=f"version {NEWER}"):
            write(standing_in)


RECORD = {"name": "s", "queue": "email", "task": "tasks.f", "pattern": "* * * * * *"}


@examples(50)
@given(strange(ScheduleRecord), HEADERS)
def test_a_schedule_that_is_paused_or_defined_anew_says_all(more: dict[str, Any], meta: dict[str, Any]) -> None:
    given = {**RECORD, **more, "meta": meta}
    record = read_record(json.dumps(given))
    paused = json.loads(encode_record(replace(record, paused=True)))
    assert _includes(paused, {**RECORD, **more}) and says_all_of(json.dumps(paused.get("meta", {})), meta)
    anew = json.loads(encode_record(_continued(ScheduleRecord("s", "email", "tasks.f", "* * * * * *"), record)))
    assert _includes(anew, more)
    assert says_all_of(job_headers(job_of_tick(record, b"{}", 5.0, None))["Jetq"], meta)


def test_a_schedule_of_a_newer_version_is_told_from_nonsense() -> None:
    for newer in ({"v": NEWER}, {"meta": {"v": NEWER}}):
        with pytest.raises(NewerHeader):
            read_record(json.dumps({**RECORD, **newer}))

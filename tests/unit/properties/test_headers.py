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

from jetq import NewerVersion
from jetq.encoding.headers import (
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
from jetq.memory import MemoryBroker
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.extended import Extended
from jetq.model.failure import AttemptError, Failure
from jetq.model.job import Delivery, JobRecord, Meta, replacing_meta
from jetq.model.outcome import Dead, InLine, Needs, Outcome, PutOff, Released, Retrying, Snoozed
from jetq.model.schedule import ScheduleRecord
from jetq.operations.dead_letter_files import read_line, write_line
from jetq.operations.dead_letters import check_readable, edited, revived
from jetq.operations.schedules import _continued
from jetq.worker.attempt import Attempt
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
HEADERS = st.builds(
    lambda more, errors, attempt: {"attempt": attempt, **({"errors": errors} if errors else {}), **more},
    strange(Meta),
    ERRORS,
    st.integers(1, 3),
)
"""What the `Jetq` header says, as JSON."""

FAILURE = Failure(type="builtins.ValueError", message="no")


def says_all_of(text: str, given: Mapping[str, Any]) -> bool:
    """Whether a header still has each field of `given` that this version has no name for, also those of its errors."""
    found, known = json.loads(text), {each.encode_name for each in fields(Meta)}
    strangers = {name: value for name, value in given.items() if name not in known}
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


async def settled(text: str, outcome: Outcome) -> Mapping[str, str] | DeadEntry:
    """The headers of what stands after a worker settled a job with that header, or its dead letter."""
    broker = MemoryBroker()
    got: list[Delivery] = []
    await broker.enqueue(replace(JOB, as_is={"Jetq": text, "Other": "kept"}))
    feed = await broker.feed("email", got.append)
    feed.ask(1)
    await feed.stop()
    attempt = Attempt(got[0])
    with suppress(BadHeader):
        attempt.meta = read_meta(got[0].headers)
    assert await Settlement(broker, cast(Leases, Held()), "w").settle(attempt, outcome)
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


@pytest.mark.parametrize("outcome", [Released(), PutOff(5.0, Needs("tasks.f", v=2), since=1.0)], ids=["back", "off"])
@examples(25)
@given(HEADERS)
def test_what_a_newer_jetq_wrote_goes_back_byte_for_byte(outcome: Outcome, header: dict[str, Any]) -> None:
    """Guarantee: a job of a newer wire version is put off and given back with each byte of its header."""
    text = json.dumps({**header, "attempt": "of another kind", "v": 2})
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


WRITERS = [by_moving, by_debounce, by_replay, by_edit, by_export_and_replay]


@pytest.mark.parametrize("write", WRITERS)
@examples(25)
@given(HEADERS)
def test_nobody_who_writes_a_job_anew_drops_a_field(write: Callable[[str], str], header: dict[str, Any]) -> None:
    assert says_all_of(write(json.dumps({"in_line": 5.0, **header})), header)


@pytest.mark.parametrize("write", WRITERS)
def test_nobody_writes_anew_what_only_a_newer_jetq_can_read(write: Callable[[str], str]) -> None:
    """Guarantee: a replay, an edit or another due time refuses what it would drop."""
    with pytest.raises(NewerVersion, match="version 2"):
        write('{"v":2,"in_line":5,"compensates":[]}')


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
    text = json.dumps({**LETTER, "v": 2})
    with pytest.raises(NewerHeader):
        read_letter(text)
    standing_in = DeadEntry(replace(read_letter(json.dumps(LETTER)), headers={"Jetq-Letter": text}), b"{}", 1)
    for write in (revived, write_line, check_readable):
        with pytest.raises(NewerVersion, match="version 2"):
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
    for newer in ({"v": 2}, {"meta": {"v": 2}}):
        with pytest.raises(NewerHeader):
            read_record(json.dumps({**RECORD, **newer}))

"""Dead letters as lines: everything in them, bytes exactly, and what is no such line is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import AttemptError, Failure
from jetq.operations.dead_letter_files import BadLine, read_line, write_line
from tests.unit.properties.examples import examples

LETTER = DeadLetter(
    id="a1~k",
    task="tasks.f",
    queue="email",
    key="k",
    reason="crashed",
    failure=Failure(type="builtins.ValueError", message="no\ngood \u2028", traceback="T", args=(1, "x", None, 0.1)),
    attempt=2,
    at=1785500000.123457,
    enqueued=1785400000.000001,
    address="jetq.email.run.tasks:f.k.a1~k",
    sequence=12,
    count=3,
    worker="host-1",
    errors=(AttemptError(attempt=1, type="E", message="é", at=1.5, worker="w"),),
    errors_dropped=1,
    snoozes=2,
    replays=3,
    edits=1,
    headers={"Jetq": '{"attempt":2}', "X": "é"},
    level="high",
)


@examples(100)
@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_every_body_and_field_survives(body: bytes) -> None:
    line = write_line(DeadEntry(LETTER, body, 7))
    assert b"\n" not in line
    back = read_line(line + b"\n")
    assert back == DeadEntry(LETTER, body, 0)
    assert write_line(back) == line


def test_a_line_can_be_read_by_people_and_other_programs() -> None:
    line: dict[str, Any] = json.loads(write_line(DeadEntry(LETTER, b'{"x": 1}', 7)))
    assert (line["format"], line["text"], line["letter"]["id"]) == (1, '{"x": 1}', "a1~k")
    assert json.loads(write_line(DeadEntry(LETTER, b"\xff", 7)))["base64"] == "/w=="


def broken(**changes: Any) -> bytes:
    line = json.loads(write_line(DeadEntry(LETTER, b"{}", 7)))
    line["letter"].update(changes.pop("letter", {}))
    line.update(changes)
    return json.dumps({name: value for name, value in line.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "no exported dead letter"),
        (b"{", "no exported dead letter"),
        (b"[1]", "no exported dead letter"),
        (b"\xff\xfe", "no exported dead letter"),
        (b"[" * 1000, "nested too deeply"),
        (broken(format=2), "of format 2, and this jetq reads format 1"),
        (broken(format=None), "no exported dead letter"),
        (broken(more=1), "no exported dead letter"),
        (broken(text=None), "needs the body as text, or as base64"),
        (broken(base64="/w=="), "needs the body as text, or as base64"),
        (broken(text=None, base64="/w"), "its base64 is none"),
        (broken(letter={"id": "a.b"}), "has a id that is none"),
        (broken(letter={"id": "*"}), "has a id that is none"),
        (broken(letter={"task": "a >"}), "has a task that is none"),
        (broken(letter={"queue": "Not"}), "queue 'Not' is not allowed"),
        (broken(letter={"reason": "bored"}), "its letter is unreadable"),
        (broken(letter={"edits": -1}), "edits is -1"),
        (broken(letter={"at": 1e300}), "at is 1e\\+300"),
    ],
)
def test_what_is_no_such_line_is_refused_with_a_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadLine, match=reason):
        read_line(line)

"""Arguments of a dead job as they are shown, changed and refused."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from msgspec import Struct

from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError
from jetq.model.redaction import Secret
from jetq.operations.dead_letter_editing import Draft


class Login(Struct):
    host: str
    password: str


def mail(to: str, copies: int = 1, *, pin: Secret[str] = "", login: Login | None = None, note: str = "") -> None: ...


def loose(*args: int, **more: Any) -> None: ...


MAIL = Signature(mail, "tasks.mail")
BODY = b'{"to":"a", "copies":1, "pin":"1234","login":{"host":"h","password":"s3cret"},"note":"***"}'


def edit(body: bytes = BODY, signature: Signature = MAIL, **changes: Any) -> Any:
    """What becomes of the shown text with those changes; None for nothing."""
    draft = Draft(signature, body)
    shown = {name: value for name, value in {**json.loads(draft.text), **changes}.items() if value is not ...}
    made = draft.changed_by(json.dumps(shown))
    return None if made is None else json.loads(made)


def test_what_is_shown_is_readable_and_tells_no_secret() -> None:
    text = Draft(MAIL, BODY).text
    assert text.startswith('{\n  "to": "a",\n  "copies": 1,\n  "pin": "***",')
    assert "1234" not in text
    assert "s3cret" not in text


def test_what_is_left_as_shown_keeps_its_value_and_bytes() -> None:
    draft = Draft(MAIL, b'{"to":"a","copies": 1,"pin":"12\\u0033", "note":"x"}')
    made = draft.changed_by(draft.text.replace('"a"', '"b"'))
    assert made == b'{"to":"b","copies":1,"pin":"12\\u0033","note":"x"}'


@pytest.mark.parametrize("text", [Draft(MAIL, BODY).text, json.dumps(json.loads(Draft(MAIL, BODY).text))])
def test_an_unchanged_text_is_no_edit_however_it_is_laid_out(text: str) -> None:
    assert Draft(MAIL, BODY).changed_by(text) is None


def test_changed_added_and_removed() -> None:
    whole = {**json.loads(BODY)}
    assert edit(to="b", note=...) == {name: value for name, value in {**whole, "to": "b"}.items() if name != "note"}
    assert edit(b'{"to":"a"}', copies=2) == {"to": "a", "copies": 2}
    assert edit(pin="99") == {**whole, "pin": "99"}
    assert edit(login={"host": "g", "password": "new"})["login"] == {"host": "g", "password": "new"}
    assert edit(note="***") is None  # its own stars
    assert edit(note="**")["note"] == "**"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"copies": "two"}, "copies: expected int, got str"),
        ({"to": ...}, "missing a required argument: 'to'"),
        ({"extra": 1}, "got an unexpected argument 'extra'"),
        ({"copies": 1.5}, "copies: expected int, got float"),
        ({"login": {"host": "g", "password": "***"}}, "login: was changed, and a part of it is still hidden"),
        ({"pin": ..., "to": "***"}, "to: was changed, and a part of it is still hidden"),
        ({"pin": None}, "pin: expected str, got null"),
    ],
)
def test_what_the_worker_would_refuse_is_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        edit(**changes)
    assert refused.value.message.startswith("tasks.mail(to: str, copies: int = 1, ")
    assert error in refused.value.message
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "nope", '{"to": NaN}', "\ud800"])
def test_a_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"tasks\.mail\(.*JSON"):
        Draft(MAIL, BODY).changed_by(text)


@pytest.mark.parametrize("body", [b"\xff", b"[1]", b"", b"{" * 2000, b'{"a":' * 700 + b"1" + b"}" * 700])
def test_of_what_is_no_object_nothing_is_shown_and_all_is_written_anew(body: bytes) -> None:
    draft = Draft(MAIL, body)
    assert not draft.readable
    assert draft.text == "{}\n"
    assert draft.with_values({"to": "b"}) == b'{"to":"b"}'
    with pytest.raises(ArgumentError, match="missing a required argument"):
        draft.changed_by("{}")


def test_arguments_that_do_not_fit_can_be_mended() -> None:
    draft = Draft(MAIL, b'{"too":"a"}')
    assert draft.readable
    assert draft.changed_by('{"to": "a"}') == b'{"to":"a"}'


def test_values_given_one_by_one() -> None:
    draft = Draft(MAIL, b'{"to":"a", "pin":"1"}')
    assert draft.with_values({"copies": 3}) == b'{"to":"a","pin":"1","copies":3}'
    assert draft.with_values({"to": "b"}) == b'{"to":"b","pin":"1"}'
    assert draft.with_values({"to": "a"}) is None
    with pytest.raises(ArgumentError, match="copies: expected int, got bool"):
        draft.with_values({"copies": True})


def test_one_and_true_are_not_the_same() -> None:
    draft = Draft(Signature(loose, "tasks.loose"), b'{"args":[1],"more":{"a":1}}')
    assert draft.changed_by('{"args":[1],"more":{"a":true}}') == b'{"args":[1],"more":{"a":true}}'
    assert draft.value("more") == {"a": 1}


def test_a_datetime_without_a_zone_is_kept_and_not_written() -> None:
    def remind(at: datetime, note: str) -> None: ...

    signature = Signature(remind, "tasks.remind")
    body = b'{"at":"2026-01-01T00:00:00","note":"a"}'
    assert edit(body, signature, note="b") == {"at": "2026-01-01T00:00:00", "note": "b"}
    with pytest.raises(ArgumentError, match="at: has no time zone"):
        edit(body, signature, at="2026-01-02T00:00:00")

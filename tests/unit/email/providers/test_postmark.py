"""Postmark: what it is asked, and what its answers mean."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec
import pytest

from jetq_email.outcomes import Refusal, Sent
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from jetq_email.providers.postmark import Postmark
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import full, only, plain

POSTMARK = Postmark(token=Secret("t-1"))


def content(envelope: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(POSTMARK.build(envelope).content)
    return made


def read(status: int, answer: object, headers: dict[str, str] | None = None) -> Answer:
    return POSTMARK.read(Response(status, headers or {}, msgspec.json.encode(answer)), full())


def test_the_request_has_all_of_the_mail() -> None:
    request = POSTMARK.build(full())
    assert request.url == "https://api.postmarkapp.com/email"
    assert request.headers["x-postmark-server-token"] == "t-1"
    made = content(full())
    assert made["From"] == '"The Shop" <shop@example.org>'
    assert made["To"] == '"Lovelace, Ada" <ada@example.com>, "Bób" <bob@example.com>'
    assert (made["Cc"], made["Bcc"]) == ("cleo@example.com", "dan@example.com")
    assert made["ReplyTo"] == '"Help" <help@example.org>'
    assert (made["Subject"], made["TextBody"], made["Tag"]) == ("Grüße — 你好", "Hi!", "receipts")
    assert made["HtmlBody"] == '<p>Hi! <img src="cid:logo"></p>'
    assert {"Name": "List-Unsubscribe", "Value": "<https://shop.example/u>"} in made["Headers"]
    assert {"Name": "Message-ID", "Value": "<default+j2@example.org>"} in made["Headers"]
    table, logo, invitation = made["Attachments"]
    assert (table["Name"], b64decode(table["Content"])) == ("räksmörgås.csv", b"a,b\r\n")
    assert (logo["ContentID"], logo["ContentType"]) == ("cid:logo", "image/png")
    assert 'method="REQUEST"' in invitation["ContentType"]


def test_a_later_attempt_names_only_who_lacks_the_mail() -> None:
    made = content(only(full(), "bob@example.com", "dan@example.com"))
    assert made["To"] == '"Bób" <bob@example.com>'
    assert made["Bcc"] == "dan@example.com"
    assert "Cc" not in made


def test_what_is_not_given_is_not_said() -> None:
    assert {"HtmlBody", "Tag", "ReplyTo", "Attachments", "Cc", "Bcc"}.isdisjoint(content(plain()))


def test_taken_for_all() -> None:
    answer = {"ErrorCode": 0, "Message": "OK", "MessageID": "m-1", "To": "ada@example.com"}
    assert read(200, answer) == Sent(full().recipients, (), "m-1")


def test_taken_for_some() -> None:
    text = (
        "Message OK, but will not deliver to these inactive addresses: Cleo@example.com, dan@example.com. "
        "Inactive recipients are ones that have generated a hard bounce."
    )
    answer = read(200, {"ErrorCode": 0, "Message": text, "MessageID": "m-1"})
    assert isinstance(answer, Sent)
    assert answer.delivered == ("ada@example.com", "bob@example.com")
    assert [(each.recipient, each.permanent) for each in answer.refused] == [
        ("cleo@example.com", True),
        ("dan@example.com", True),
    ]


def test_inactive_all() -> None:
    text = (
        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
        "ada@example.com, bob@example.com, cleo@example.com, dan@example.com.\nInactive recipients are ones that"
    )
    answer = read(422, {"ErrorCode": 406, "Message": text})
    assert isinstance(answer, Sent)
    assert (answer.delivered, len(answer.refused)) == ((), 4)
    assert all(isinstance(each, Refusal) and each.permanent for each in answer.refused)


@pytest.mark.parametrize(
    ("status", "code", "kind", "permanent"),
    [
        (422, 300, Refused, True),
        (422, 412, Refused, False),
        (422, 400, Refused, False),
        (401, 10, Refused, False),
        (413, 0, Refused, True),
        (429, 0, Slower, None),
        (500, 0, Unavailable, None),
        (503, 100, Unavailable, None),
        (200, 0, Unclear, None),
        (302, 0, Unclear, None),
    ],
)
def test_other_answers(status: int, code: int, kind: type, permanent: bool | None) -> None:
    answer = read(status, {"ErrorCode": code, "Message": "about ada@example.com"})
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)

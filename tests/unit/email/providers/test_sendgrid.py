"""SendGrid: what it is asked, and what its answers mean."""

from __future__ import annotations

import time
from base64 import b64decode
from typing import Any

import msgspec
import pytest

from jetq_email.errors import Unsendable
from jetq_email.message import Email, compose
from jetq_email.outcomes import Sent
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from jetq_email.providers.sendgrid import SendGrid
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import WHEN, full, made_of, only, plain

SENDGRID = SendGrid(key=Secret("SG.1"))


def content(envelope: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(SENDGRID.build(envelope).content)
    return made


def read(status: int, *messages: str, headers: dict[str, str] | None = None) -> Answer:
    answer = {"errors": [{"message": each, "field": None, "help": None} for each in messages]}
    return SENDGRID.read(Response(status, headers or {}, msgspec.json.encode(answer)), full())


def test_the_request_has_all_of_the_mail() -> None:
    request = SENDGRID.build(full())
    assert request.url == "https://api.sendgrid.com/v3/mail/send"
    assert request.headers["authorization"] == "Bearer SG.1"
    made = content(full())
    assert made["from"] == {"email": "shop@example.org", "name": "The Shop"}
    assert made["personalizations"] == [
        {
            "to": [
                {"email": "ada@example.com", "name": '"Lovelace, Ada"'},
                {"email": "bob@example.com", "name": "Bób"},
            ],
            "cc": [{"email": "cleo@example.com"}],
            "bcc": [{"email": "dan@example.com"}],
        }
    ]
    assert made["reply_to_list"] == [{"email": "help@example.org", "name": "Help"}]
    assert (made["subject"], made["categories"]) == ("Grüße — 你好", ["receipts"])
    assert made["content"] == [
        {"type": "text/plain", "value": "Hi!"},
        {"type": "text/html", "value": '<p>Hi! <img src="cid:logo"></p>'},
    ]
    assert made["headers"] == {
        "List-Unsubscribe": "<https://shop.example/u>",
        "X-Order": "17",
        "Message-ID": "<default+j2@example.org>",
    }
    table, logo, invitation = made["attachments"]
    assert (table["filename"], table["type"], b64decode(table["content"])) == (
        "räksmörgås.csv",
        "text/csv",
        b"a,b\r\n",
    )
    assert (table["disposition"], "content_id" in table) == ("attachment", False)
    assert (logo["disposition"], logo["content_id"], logo["type"]) == ("inline", "logo", "image/png")
    assert (invitation["filename"], invitation["type"]) == ("invite.ics", "text/calendar")


def test_what_is_not_given_is_not_said() -> None:
    assert set(content(plain())) == {"personalizations", "from", "subject", "content", "headers"}


def test_nobody_is_named_twice() -> None:
    """SendGrid refuses a mail that does, in whichever places."""
    mail = made_of(to=["ann@example.com", "ANN@example.com"], cc=["ann@example.com", "bob@example.com"])
    [named] = content(mail)["personalizations"]
    assert named == {"to": [{"email": "ann@example.com"}], "cc": [{"email": "bob@example.com"}]}


def test_a_header_beyond_ascii_is_encoded() -> None:
    mail = made_of(to=["ann@example.com"], headers={"X-Name": "Zoë " + "é" * 80})
    value = content(mail)["headers"]["X-Name"]
    assert value.isascii() and value.startswith("=?utf-8?") and "\r" not in value


@pytest.mark.parametrize("header", ["X-SG-EID", "x-sg-id", "DKIM-Signature"])
def test_a_reserved_header_is_refused(header: str) -> None:
    with pytest.raises(Unsendable, match="sendgrid keeps it for itself"):
        SENDGRID.build(made_of(to=["ann@example.com"], headers={header: "1"}))


def test_a_mail_without_a_subject_is_refused() -> None:
    mail = compose(Email(to=["a@x.com"], subject=" ", text="t", sender="s@x.com"), job_id="j", date=WHEN)
    with pytest.raises(Unsendable, match="subject"):
        SENDGRID.build(mail)


def test_an_empty_text_is_a_blank() -> None:
    mail = compose(Email(to=["a@x.com"], subject="s", text="", sender="s@x.com"), job_id="j", date=WHEN)
    assert content(mail)["content"] == [{"type": "text/plain", "value": " "}]


def test_taken() -> None:
    answer = SENDGRID.read(Response(202, {"x-message-id": "m-1"}), only(full(), "bob@example.com"))
    assert answer == Sent(("bob@example.com",), (), "m-1")


@pytest.mark.parametrize(
    ("status", "text", "kind", "permanent"),
    [
        (400, "Does not contain a valid address: ada@example.com", Refused, True),
        (401, "Maximum credits exceeded", Refused, False),
        (400, "Maximum credits exceeded", Refused, False),
        (403, "The from address does not match a verified Sender Identity", Refused, False),
        (413, "too large", Refused, True),
        (429, "too many requests", Slower, None),
        (500, "", Unavailable, None),
        (200, "", Unclear, None),
    ],
)
def test_other_answers(status: int, text: str, kind: type, permanent: bool | None) -> None:
    answer = read(status, text)
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)


def test_the_end_of_a_limit_is_an_instant() -> None:
    now = int(time.time())
    answer = read(429, "too many requests", headers={"x-ratelimit-reset": str(now + 60)})
    assert isinstance(answer, Slower) and answer.after is not None and 50 < answer.after <= 60

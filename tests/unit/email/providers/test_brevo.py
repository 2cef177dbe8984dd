"""Brevo: what it is asked, and what its answers mean."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from uuid import UUID

import msgspec
import pytest

from jetq_email.errors import Unsendable
from jetq_email.message.mime import Part
from jetq_email.outcomes import Sent
from jetq_email.providers.brevo import Brevo
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import full, made_of, only, plain, without_pictures

BREVO = Brevo(key=Secret("xkeysib-1"))


def content(envelope: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(BREVO.build(envelope).content)
    return made


def read(status: int, code: str, text: str = "", headers: dict[str, str] | None = None) -> Answer:
    return BREVO.read(Response(status, headers or {}, msgspec.json.encode({"code": code, "message": text})), full())


def test_the_request_has_all_of_the_mail() -> None:
    request = BREVO.build(without_pictures())
    assert request.url == "https://api.brevo.com/v3/smtp/email"
    assert request.headers["api-key"] == "xkeysib-1"
    made = content(without_pictures())
    assert made["sender"] == {"email": "shop@example.org", "name": "The Shop"}
    assert made["to"] == [
        {"email": "ada@example.com", "name": "Lovelace, Ada"},
        {"email": "bob@example.com", "name": "Bób"},
    ]
    assert (made["cc"], made["bcc"]) == ([{"email": "cleo@example.com"}], [{"email": "dan@example.com"}])
    assert made["replyTo"] == {"email": "help@example.org", "name": "Help"}
    assert (made["subject"], made["textContent"], made["tags"]) == ("Grüße — 你好", "Hi!", ["receipts"])
    assert made["htmlContent"] == '<p>Hi! <img src="cid:logo"></p>'
    assert made["headers"]["List-Unsubscribe"] == "<https://shop.example/u>"
    table, invitation = made["attachment"]
    assert (table["name"], b64decode(table["content"])) == ("räksmörgås.csv", b"a,b\r\n")
    assert invitation["name"] == "invite.ics"


def test_the_key_is_a_uuid_and_the_same_in_a_repeat() -> None:
    key = content(plain())["headers"]["idempotencyKey"]
    assert UUID(key).version == 4
    assert key == content(plain())["headers"]["idempotencyKey"]
    whole, rest = without_pictures(), only(without_pictures(), "bob@example.com")
    assert content(whole)["headers"]["idempotencyKey"] != content(rest)["headers"]["idempotencyKey"]


def test_text_alone_gets_html_that_shows_it() -> None:
    made = content(made_of(to=["a@example.com"], text="1 < 2\n"))
    assert made["htmlContent"] == '<div style="white-space: pre-wrap">1 &lt; 2\n</div>'
    assert {"attachment", "tags", "replyTo", "cc", "bcc"}.isdisjoint(made)


def test_what_it_cannot_send_is_refused_here() -> None:
    with pytest.raises(Unsendable, match="content_id"):
        BREVO.build(full())
    with pytest.raises(Unsendable, match="reply_to"):
        BREVO.build(made_of(to=["a@x.com"], reply_to=["b@x.com", "c@x.com"]))
    with pytest.raises(Unsendable, match="ASCII"):
        BREVO.build(made_of(to=["a@x.com"], headers={"X-Name": "Zoë"}))
    for header in ("idempotencyKey", "X-Mailin-Custom", "sender.ip"):
        with pytest.raises(Unsendable, match="brevo keeps it for itself"):
            BREVO.build(made_of(to=["a@x.com"], headers={header: "1"}))
    BREVO.build(made_of([Part("a.pdf", b"x")], to=["a@x.com"]))


def test_taken() -> None:
    answer = BREVO.read(Response(201, {}, b'{"messageId":"<m@smtp-relay>"}'), full())
    assert answer == Sent(full().recipients, (), "<m@smtp-relay>")


def test_a_key_that_it_knows_is_a_mail_that_it_has() -> None:
    assert read(400, "duplicate_parameter", "idempotencyKey") == Sent(full().recipients)


@pytest.mark.parametrize(
    ("status", "code", "kind", "permanent"),
    [
        (400, "invalid_parameter", Refused, True),
        (400, "missing_parameter", Refused, True),
        (400, "not_enough_credits", Refused, False),
        (402, "not_enough_credits", Refused, False),
        (401, "unauthorized", Refused, False),
        (403, "permission_denied", Refused, False),
        (429, "too_many_requests", Slower, None),
        (500, "", Unavailable, None),
        (201, "", Unclear, None),
    ],
)
def test_other_answers(status: int, code: str, kind: type, permanent: bool | None) -> None:
    answer = read(status, code, "about ada@example.com")
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)


def test_its_own_header_says_how_long_to_wait() -> None:
    answer = read(429, "too_many_requests", headers={"x-sib-ratelimit-reset": "45"})
    assert isinstance(answer, Slower) and answer.after == 45

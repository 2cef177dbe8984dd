"""Resend: what it is asked, and what its answers mean."""

from __future__ import annotations

from base64 import b64decode
from email.header import decode_header, make_header
from typing import Any

import msgspec
import pytest

from jetq_email.outcomes import Sent
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear, idempotency_key
from jetq_email.providers.resend import Resend
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import full, made_of, only, plain

RESEND = Resend(key=Secret("re_1"))


def content(envelope: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(RESEND.build(envelope).content)
    return made


def read(status: int, name: str, text: str = "", headers: dict[str, str] | None = None) -> Answer:
    answer = {"statusCode": status, "name": name, "message": text}
    return RESEND.read(Response(status, headers or {}, msgspec.json.encode(answer)), full())


def test_the_request_has_all_of_the_mail() -> None:
    request = RESEND.build(full())
    assert request.url == "https://api.resend.com/emails"
    assert request.headers["authorization"] == "Bearer re_1"
    assert request.headers["idempotency-key"] == idempotency_key(full())
    made = content(full())
    assert made["from"] == "The Shop <shop@example.org>"
    ada, bob = made["to"]
    assert str(make_header(decode_header(ada.rpartition(" ")[0]))) == "Lovelace, Ada"
    assert (ada.rpartition(" ")[2], bob) == ("<ada@example.com>", "Bób <bob@example.com>")
    assert (made["cc"], made["bcc"]) == (["cleo@example.com"], ["dan@example.com"])
    assert made["reply_to"] == ["Help <help@example.org>"]
    assert (made["subject"], made["text"]) == ("Grüße — 你好", "Hi!")
    assert made["html"] == '<p>Hi! <img src="cid:logo"></p>'
    assert made["headers"] == {"List-Unsubscribe": "<https://shop.example/u>", "X-Order": "17"}
    assert made["tags"] == [{"name": "tag", "value": "receipts"}]
    table, logo, invitation = made["attachments"]
    assert (table["filename"], b64decode(table["content"])) == ("räksmörgås.csv", b"a,b\r\n")
    assert (logo["content_id"], logo["content_type"]) == ("logo", "image/png")
    assert 'method="REQUEST"' in invitation["content_type"]


def test_what_is_not_given_is_not_said() -> None:
    assert set(content(plain())) == {"from", "to", "subject", "text"}


def test_a_sender_whose_name_needs_quotes_has_them() -> None:
    assert content(made_of(to=["a@example.com"], sender='"Shop, Ltd." <s@x.org>'))["from"] == '"Shop, Ltd." <s@x.org>'


def test_the_key_is_of_the_job_its_recipients_and_its_text() -> None:
    """Guarantee: a repeat has the key of what it repeats, and another mail has another."""
    key = idempotency_key(full())
    assert key == idempotency_key(full())
    assert key != idempotency_key(only(full(), "bob@example.com"))
    assert key != idempotency_key(plain())
    assert idempotency_key(made_of(to=["a@x.com"])) != idempotency_key(made_of(to=["a@x.com"], text="mended"))


def test_taken() -> None:
    answer = RESEND.read(Response(200, {}, b'{"id":"e-1"}'), full())
    assert answer == Sent(full().recipients, (), "e-1")


@pytest.mark.parametrize(
    ("status", "name", "text", "kind", "permanent"),
    [
        (422, "validation_error", "Invalid `to` field: ada@example.com", Refused, True),
        (400, "validation_error", "API key is invalid", Refused, False),
        (401, "missing_api_key", "", Refused, False),
        (403, "validation_error", "The example.org domain is not verified", Refused, False),
        (451, "security_error", "", Refused, True),
        (409, "invalid_idempotent_request", "", Refused, True),
        (409, "concurrent_idempotent_requests", "", Unclear, None),
        (429, "rate_limit_exceeded", "", Slower, None),
        (500, "application_error", "", Unavailable, None),
        (200, "", "", Unclear, None),
    ],
)
def test_other_answers(status: int, name: str, text: str, kind: type, permanent: bool | None) -> None:
    answer = read(status, name, text)
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)


@pytest.mark.parametrize(
    ("name", "headers", "after"),
    [
        ("rate_limit_exceeded", {"retry-after": "2"}, 2),
        ("rate_limit_exceeded", {"ratelimit-reset": "1"}, 1),
        ("daily_quota_exceeded", {"retry-after": "1"}, 900),
        ("monthly_quota_exceeded", {}, 900),
        ("daily_quota_exceeded", {"retry-after": "4000"}, 4000),
    ],
)
def test_how_long_it_is_left_alone(name: str, headers: dict[str, str], after: float) -> None:
    answer = read(429, name, headers=headers)
    assert isinstance(answer, Slower) and answer.after == after

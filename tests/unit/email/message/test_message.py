"""Addresses, headers and MIME: what `compose` builds is parsed back with the standard library and compared."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq_email.errors import Unsendable
from jetq_email.message import Email, Envelope, Part, compose
from jetq_email.message.address import parse_mailbox
from jetq_email.plaintext import html_to_text

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def build(*parts: Part, job_id: str = "job1", **fields: Any) -> Envelope:
    given = {"to": ["ann@example.com"], "subject": "Hi", "sender": "app@example.org"} | fields
    if "text" not in given and "html" not in given:
        given["text"] = "hello"
    return compose(Email(**given), parts, job_id=job_id, date=WHEN)


def parse(envelope: Envelope) -> EmailMessage:
    message = email.message_from_bytes(envelope.message, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_headers_and_text_come_back() -> None:
    message = parse(
        build(
            to=["Jörg <j@example.com>", '"Lovelace, Ada" <ada@example.com>'],
            cc=["c@example.com"],
            reply_to=["help@example.org"],
            subject="Grüße " * 30,
            text="Zeile eins\n.punkt\n" + "lang " * 300,
            headers={"List-Unsubscribe": "<https://example.org/u>"},
        )
    )
    assert [(a.display_name, a.addr_spec) for a in message["To"].addresses] == [
        ("Jörg", "j@example.com"),
        ("Lovelace, Ada", "ada@example.com"),
    ]
    assert message["Cc"] == "c@example.com"
    assert message["Reply-To"] == "help@example.org"
    assert message["Subject"] == ("Grüße " * 30)
    assert message["List-Unsubscribe"] == "<https://example.org/u>"
    assert message["Date"].datetime == WHEN
    assert message.get_content().replace("\r\n", "\n") == "Zeile eins\n.punkt\n" + "lang " * 300 + "\n"


def test_bytes_are_ascii_lines_that_every_server_takes() -> None:
    raw = build(subject="ü" * 300, text="ü" * 5000).message
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) < 998
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_bcc_is_in_the_envelope_and_nowhere_in_the_mail() -> None:
    envelope = build(to=["a@example.com"], cc=["b@example.com", "A <a@example.com>"], bcc=["secret@example.com"])
    assert envelope.recipients == ("a@example.com", "b@example.com", "secret@example.com")
    assert b"secret" not in envelope.message


@pytest.mark.parametrize(("job_id", "expected"), [("abc", "<abc@example.org>"), ("a:b", "<a+b@example.org>")])
def test_message_id_is_the_jobs(job_id: str, expected: str) -> None:
    first, second = (parse(build(job_id=job_id)) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == expected


def test_text_is_made_of_html() -> None:
    message = parse(
        build(html='<style>p{}</style><h1>Hi</h1><p>Read <a href="https://x.example/a">this</a> &amp; go</p>')
    )
    plain = message.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().split("\r\n") == ["Hi", "", "Read this (https://x.example/a) & go", ""]
    assert message.get_content_type() == "multipart/alternative"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<html><head><meta charset=utf-8><title>Hi</title><body><p>Hello Ann</p>", "Hello Ann\n"),
        ("<head><link rel=x href=y><p>Hello<script>no()</script>", "Hello\n"),
        ("<table><tr><th>Net</th><th>Gross</th></tr><tr><td>1</td><td>2</td></tr></table>", "Net Gross\n\n1 2\n"),
        ("x<br>y<br/>z<br />", "x\ny\nz\n"),
    ],
    ids=["open-head", "no-body", "table", "br"],
)
def test_html_as_people_write_it_has_all_of_its_text(html: str, text: str) -> None:
    assert html_to_text(html) == text


def test_attachments_come_back() -> None:
    message = parse(
        build(Part("größe.pdf", b"\x00\r\n\xff" * 99), Part("mail.eml", b"Subject: x\n"), Part("a.csv", b"1,2"))
    )
    assert [
        (p.get_filename(), p.get_content_type(), p.get_payload(decode=True)) for p in message.iter_attachments()
    ] == [
        ("größe.pdf", "application/pdf", b"\x00\r\n\xff" * 99),
        ("mail.eml", "application/octet-stream", b"Subject: x\n"),
        ("a.csv", "text/csv", b"1,2"),
    ]


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: e@x.com", "x\ny", "x\ry", "x\x00", "x\u2028y", "x\x85y", "x\x0by", "\ud800"]
)
@pytest.mark.parametrize("place", ["subject", "sender", "to", "bcc", "header", "filename"])
def test_header_injection_is_refused(place: str, evil: str) -> None:
    address = f"{evil} <a@example.com>"
    cases: dict[str, dict[str, Any]] = {
        "subject": {"subject": evil},
        "sender": {"sender": address},
        "to": {"to": [address]},
        "bcc": {"bcc": [address]},
        "header": {"headers": {"X-Note": evil}},
        "filename": {},
    }
    parts = [Part(evil, b"")] if place == "filename" else []
    with pytest.raises(Unsendable, match="no header may"):
        build(*parts, **cases[place] | ({"to": []} if place == "bcc" else {}))


@pytest.mark.parametrize(
    "name", ["Bcc", "to", "Message-ID", "Content-Type", "Resent-Bcc", "X Y", "X:Y", "", "Ü", "X\r\nBcc"]
)
def test_reserved_and_impossible_header_names_are_refused(name: str) -> None:
    with pytest.raises(Unsendable, match="headers"):
        build(headers={name: "value"})


@pytest.mark.parametrize("name", ["", "a/b", "..\\x", "n" * 256])
def test_impossible_filenames_are_refused(name: str) -> None:
    with pytest.raises(Unsendable, match="not a file name"):
        build(Part(name, b""))


@pytest.mark.parametrize(
    "kind", ["message/partial", "multipart/mixed", "pdf", "text/plain; charset", "a/b\r\nX: y", 'a/b; c="\r\nX: y"']
)
def test_impossible_content_types_are_refused(kind: str) -> None:
    with pytest.raises(Unsendable, match="content type"):
        build(Part("a", b"", kind))


def test_a_mail_needs_a_body_and_a_recipient() -> None:
    with pytest.raises(Unsendable, match="neither text nor html"):
        build(text=None)
    with pytest.raises(Unsendable, match="no recipients"):
        build(to=[])


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ada@example.com", "", "ada@example.com"),
        (" Ada L <ada+x@EXAMPLE.com> ", "Ada L", "ada+x@example.com"),
        (r'"A \"B\" <c>" <a@b.de>', 'A "B" <c>', "a@b.de"),
        ("x@straße.de", "", "x@xn--strae-oqa.de"),
        ("root@localhost", "", "root@localhost"),
    ],
)
def test_addresses_that_are_understood(text: str, name: str, address: str) -> None:
    mailbox = parse_mailbox(text, "to")
    assert (mailbox.name, mailbox.address, mailbox.is_ascii) == (name, address, True)


@pytest.mark.parametrize(
    "text",
    [
        "", "ada", "@x.de", "a@", "a b@x.de", "a@b@c.de", ".a@x.de", "a..b@x.de", "a@-x.de", "a@x_y.de", "a@x..de",
        "a@x.de, b@x.de", "Ada, B <a@x.de>", "a@x.de>", "<a@x.de> SIZE=1", "a@[127.0.0.1]", f"{'l' * 65}@x.de",
        f"a@{'d' * 64}.de", f"{'l' * 60}@{'d' * 60}.{'e' * 60}.{'f' * 60}.{'g' * 60}.de",
    ],
)  # fmt: skip
def test_addresses_that_are_refused_name_their_field(text: str) -> None:
    with pytest.raises(Unsendable, match=r"^cc: "):
        parse_mailbox(text, "cc")


def test_what_is_no_address_in_bcc_keeps_the_mail_from_nobody() -> None:
    """Guarantee: the others get it, and nothing of it is in the mail."""
    envelope = build(bcc=["one@example.com", "evil\r\nTo: x@example.com", "two", "two"])
    assert envelope.recipients == ("ann@example.com", "one@example.com")
    assert [(text, error.message.partition(":")[0]) for text, error in envelope.unusable] == [
        ("evil\r\nTo: x@example.com", "bcc[1]"),
        ("two", "bcc[3]"),
    ]
    assert parse(envelope)["To"] == "ann@example.com" and b"evil" not in envelope.message


@pytest.mark.parametrize("field", ["to", "cc", "reply_to"])
def test_what_is_no_address_and_would_be_read_is_an_error_without_its_text(field: str) -> None:
    with pytest.raises(Unsendable) as caught:
        build(**{field: ["bob@example.com", "canary"]})  # type: ignore[arg-type]
    assert caught.value.message == f"{field}[1]: not a mail address: it has no @"


def test_of_recipients_of_whom_none_is_an_address_the_first_is_named() -> None:
    with pytest.raises(Unsendable, match=r"^bcc\[0\]: "):
        build(to=[], bcc=["one", "two"])


def test_who_needs_smtputf8_is_named_without_an_address_to_the_others() -> None:
    envelope = build(to=["Jörg <jörg@example.com>", "ann@example.com"], cc=["müller@example.com"])
    assert envelope.smtputf8 and envelope.without_utf8 is not None and envelope.without_utf8.isascii()
    plain = email.message_from_bytes(envelope.without_utf8, policy=email.policy.default)
    assert [(group.display_name, len(group.addresses)) for group in plain["To"].groups] == [("Jörg", 0), (None, 1)]
    assert [group.display_name for group in plain["Cc"].groups] == ["müller@example.com"]
    assert envelope.without_utf8.endswith(envelope.message.partition(b"\r\nSubject")[2])


@pytest.mark.parametrize(
    ("fields", "asks", "can_be_without"),
    [
        ({"bcc": ["jörg@example.com"]}, True, True),
        ({"sender": "jörg@example.com"}, True, False),
        ({"reply_to": ["jörg@example.com"]}, True, False),
        ({"headers": {"Disposition-Notification-To": "jörg@example.com"}}, True, False),
        ({}, False, True),
    ],
)
def test_who_asks_for_smtputf8(fields: dict[str, Any], asks: bool, can_be_without: bool) -> None:
    envelope = build(**fields)
    assert (envelope.smtputf8, envelope.without_utf8 is not None) == (asks, can_be_without)


def test_an_international_local_part_asks_for_smtputf8() -> None:
    envelope = build(to=["jörg@example.com"])
    assert envelope.smtputf8
    assert "jörg@example.com".encode() in envelope.message
    assert not build(to=["Jörg <j@exämple.de>"]).smtputf8


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=10))
def test_any_short_display_name_comes_back(name: str) -> None:
    # longer ones the standard library may fold with a space too many
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    message = parse(build(to=[f'"{quoted}" <a@example.com>']))
    assert [(a.display_name, a.addr_spec) for a in message["To"].addresses] == [(name, "a@example.com")]

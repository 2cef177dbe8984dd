"""Bodies: texts, images in them, invitations and attachments, read back with the standard library."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jetq_email.errors import Unsendable
from jetq_email.message.mime import Part, body

PICTURE = Part("logo.png", b"\x89PNG", content_id="logo")
INVITATION = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029/\\"), min_size=1)


def read(*args: Any, **fields: Any) -> EmailMessage:
    message = email.message_from_bytes(body(*args, **fields), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def shape(message: EmailMessage) -> Any:
    """The content type, and with parts their shapes."""
    kind = message.get_content_type()
    return (kind, *(shape(part) for part in message.iter_parts())) if message.is_multipart() else kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "text/plain"),
        ({"html": "<p>t"}, ("multipart/alternative", "text/plain", "text/html")),
        ({"calendar": INVITATION}, ("multipart/alternative", "text/plain", "text/calendar")),
        ({"parts": [Part("a.pdf", b"x")]}, ("multipart/mixed", "text/plain", "application/pdf")),
        (
            {"html": "<img src='cid:logo'>", "calendar": INVITATION, "parts": [Part("a.pdf", b"x"), PICTURE]},
            (
                "multipart/mixed",
                (
                    "multipart/alternative",
                    "text/plain",
                    ("multipart/related", "text/html", "image/png"),
                    "text/calendar",
                ),
                "application/pdf",
            ),
        ),
    ],
    ids=["text", "html", "invitation", "attachment", "all"],
)
def test_each_part_is_where_readers_look_for_it(fields: dict[str, Any], expected: Any) -> None:
    assert shape(read("t", **fields)) == expected


def test_a_picture_is_shown_where_the_html_names_it() -> None:
    message = read("t", html="<img src='cid:logo'>", parts=[PICTURE])
    (picture,) = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert (picture["Content-ID"], picture.get_content_disposition()) == ("<logo>", "inline")
    assert picture.get_payload(decode=True) == b"\x89PNG"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"parts": [PICTURE]}, "there is no html to show it in"),
        ({"html": "<p>", "parts": [Part("a.png", b"", content_id="a b")]}, "not a content_id"),
        ({"html": "<p>", "parts": [Part("a.png", b"", content_id="a>\r\nX: y")]}, "not a content_id"),
        ({"calendar": "BEGIN:VCALENDAR"}, "calendar: it has no METHOD"),
        ({"parts": [Part("a.eml", "ß".encode(), "message/rfc822")]}, "is no message/rfc822"),
        ({"parts": [Part("a.eml", b"x" * 999, "message/rfc822")]}, "is no message/rfc822"),
        ({"parts": [Part("a.eml", b"a\rb", "message/rfc822")]}, "is no message/rfc822"),
    ],
)
def test_what_no_reader_would_show_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(Unsendable, match=told):
        body("t", **fields)


@pytest.mark.parametrize("method", ["REQUEST", "cancel"])
def test_an_invitation_says_its_method(method: str) -> None:
    *_, calendar = read("t", calendar=INVITATION.replace("REQUEST", method)).iter_parts()
    assert (calendar.get_params() or [])[1:] == [("charset", "utf-8"), ("method", method.upper())]
    assert "BEGIN:VEVENT" in calendar.get_content()


def test_a_mail_is_attached_as_one() -> None:
    _, attached = read("t", parts=[Part("a.eml", b"Subject: inside\n\nhello\n", "message/rfc822")]).iter_parts()
    assert attached.get_content()["Subject"] == "inside"


@pytest.mark.parametrize(
    "kind", ["text/csv; charset=utf-8; header=present", 'TEXT/csv;charset="utf-8" ; header=present']
)
def test_a_content_type_has_parameters(kind: str) -> None:
    _, attached = read("t", parts=[Part("a.csv", b"a,b", kind)]).iter_parts()
    assert attached.get_params() == [("text/csv", ""), ("charset", "utf-8"), ("header", "present")]


@given(NAMES.filter(lambda name: name == name.strip() and len(name.encode()) <= 255))
@example("<>")
@example("<a>")
@example('"a"')
@settings(deadline=None)
def test_any_name_of_a_file_comes_back(name: str) -> None:
    """Also one that looks like an encoded word, which the standard library decodes in a mail that it writes."""
    for shown in (name, f"=?utf-8?q?a=0D=0Ab{name[:20]}?="):
        raw = body("t", parts=[Part(shown, b"x", "application/pdf")])
        assert all(len(line) <= 78 for line in raw.split(b"\r\n"))
        (attached,) = [part for part in email.message_from_bytes(raw).walk() if part.get_filename() is not None]
        assert attached.get_filename() == shown
        assert attached.get_payload(decode=True) == b"x"


def test_the_same_parts_give_the_same_bytes_and_no_part_can_end_another() -> None:
    first = body("t", html="<p>t", parts=[Part("a.pdf", b"x")])
    assert body("t", html="<p>t", parts=[Part("a.pdf", b"x")]) == first
    (boundary,) = [value for name, value in email.message_from_bytes(first).get_params() or [] if name == "boundary"]
    forged = f"--{boundary}\r\nContent-Type: text/html\r\n\r\n<p>forged\r\n--{boundary}--"
    assert shape(read(forged, html="<p>t", parts=[Part("a.pdf", b"x")])) == (
        "multipart/mixed",
        ("multipart/alternative", "text/plain", "text/html"),
        "application/pdf",
    )


LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=120), max_size=30
)


@given(lines=LINES, end=st.sampled_from(["", "\n", "\r\n"]))
def test_a_text_is_read_as_it_was_written_whatever_is_in_it(lines: list[str], end: str) -> None:
    """Guarantee: every line arrives, in ASCII and short enough for every server."""
    written = body("\n".join(lines) + end)
    head, _, content = written.partition(b"\r\n\r\n")
    assert written.isascii() and all(len(line) <= 78 for line in content.split(b"\r\n"))
    assert b"\n" not in content.replace(b"\r\n", b"") and b"\r" not in content.replace(b"\r\n", b"")
    found = email.message_from_bytes(written, policy=email.policy.SMTP).get_payload(decode=True)
    assert isinstance(found, bytes)
    read_lines = found.decode().removesuffix("\r\n").split("\r\n")
    assert read_lines == "\n".join(lines + ([""] if end and lines else [])).removesuffix("\n").split("\n")
    assert head.startswith(b"MIME-Version: 1.0\r\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\n" * 20, "7bit"),
        ("x" * 78, "7bit"),
        ("x" * 79, "quoted-printable"),
        ("Grüße aus Köln, und alles Gute zum Geburtstag.\n", "quoted-printable"),
        ("你好世界\n" * 3, "base64"),
    ],
)
def test_a_text_travels_in_the_shortest_way_that_every_server_takes(text: str, encoding: str) -> None:
    assert read(text)["Content-Transfer-Encoding"] == encoding

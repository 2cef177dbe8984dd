"""Delivery reports and complaints that come as mail: what they say, and that none of them is an error of ours."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq_email.feedback.events import Event
from jetq_email.feedback.reports import LONGEST, BadReport, read_report
from jetq_email.message.address import ReturnPath
from tests.apps.reports import complaint, delivery

ANN = "ann@example.com"
GONE = f"Final-Recipient: rfc822; {ANN}\nAction: failed\nStatus: 5.1.1"


PATH = "bounces+{recipient}@shop.example"


def told(raw: bytes, path: str | None = PATH) -> list[tuple[str, str]]:
    return [(each.kind, each.address) for each in read_report(raw, None if path is None else ReturnPath(path))]


def test_all_that_a_report_says() -> None:
    code = "Diagnostic-Code: smtp; 550 5.1.1 <ann@example.com>: no such\n user here"
    assert read_report(delivery(f"{GONE}\n{code}")) == [
        Event(
            kind="bounce",
            address=ANN,
            provider="smtp",
            at=datetime(2026, 3, 3, 9, tzinfo=UTC),
            detail="smtp; 550 5.1.1 <<address>>: no such user here",
            reference="default+j1@shop.example",
        )
    ]


def test_several_recipients() -> None:
    later = "Final-Recipient: RFC822;bob@example.com\nAction: Delayed\nStatus: 4.4.1"
    there = "Final-Recipient: rfc822; cleo@example.com\nAction: delivered\nStatus: 2.0.0"
    other = "Final-Recipient: rfc822; dan@example.com\nAction: relayed\nStatus: 2.0.0"
    assert told(delivery(GONE, later, there, other)) == [
        ("bounce", ANN),
        ("deferred", "bob@example.com"),
        ("delivered", "cleo@example.com"),
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("5.1.1", "bounce"),
        ("5.1.10", "bounce"),
        ("5.0.0", "bounce"),
        ("5.2.1 (mailbox disabled)", "bounce"),
        ("5.4.4", "bounce"),
        ("5.5.0", "bounce"),
        ("5.1.8", "deferred"),
        ("5.2.2", "deferred"),
        ("5.3.4", "deferred"),
        ("5.4.7", "deferred"),
        ("5.6.0", "deferred"),
        ("5.7.1", "deferred"),
        ("5.7.26", "deferred"),
        ("4.4.7", "deferred"),
        ("4.2.2", "deferred"),
        ("2.0.0", "deferred"),
        ("55.1.1", "deferred"),
        ("no idea", "deferred"),
        ("", "deferred"),
    ],
)
def test_what_failed_because_of_the_address(status: str, kind: str) -> None:
    """Guarantee: a policy, a full mailbox or a long mail puts nobody on the list."""
    assert told(delivery(f"Final-Recipient: rfc822; {ANN}\nAction: failed\nStatus: {status}")) == [(kind, ANN)]


@pytest.mark.parametrize(
    ("group", "to", "address"),
    [
        (f"Original-Recipient: rfc822;{ANN}\nFinal-Recipient: rfc822; box@elsewhere.example", "b@shop.example", ANN),
        ("Final-Recipient: rfc822; box@elsewhere.example", "bounces+ann=example.com@shop.example", ANN),
        ("Final-Recipient: rfc822; x@y.example", "<bounces+a+b=c=example.com@shop.example>", "a+b=c@example.com"),
        (f"Final-Recipient: rfc822; {ANN}", "bounces+tag@shop.example", ANN),
        (f"Final-Recipient: rfc822; {ANN}", "bounces+bob=example.com@else.example", ANN),
        (f"Final-Recipient: rfc822; {ANN}", "other+bob=example.com@shop.example", ANN),
        (f"Final-Recipient: rfc822; <{ANN}>", "b@shop.example", ANN),
        (f"Final-Recipient: {ANN}", "b@shop.example", ANN),
        (f"Final-Recipient: rfc822;\n\t{ANN}", "b@shop.example", ANN),
        (r"Final-Recipient: utf-8; r\x{E4}ksm\x{F6}rg\x{E5}s@example.com", "b@shop.example", "räksmörgås@example.com"),
        ("Final-Recipient: utf-8; räksmörgås@example.com", "b@shop.example", "räksmörgås@example.com"),
        (r"Final-Recipient: utf-8; a\x{FFFFFF}@example.com", "b@shop.example", None),
        (r"Final-Recipient: utf-8; a\x{D800}@example.com", "b@shop.example", None),
        ("Final-Recipient: x400; /C=DE/", "b@shop.example", None),
        ("Original-Recipient: rfc822; ann@example.com", "b@shop.example", None),
    ],
)
def test_who_it_is(group: str, to: str, address: str | None) -> None:
    found = told(delivery(f"{group}\nAction: failed\nStatus: 5.1.1", to=to))
    assert found == ([] if address is None else [("bounce", address)])


@pytest.mark.parametrize(
    ("path", "to", "address"),
    [
        (
            "b+{id}+{recipient}@shop.example",
            "B+01a20abd74aa9ae93d3bec23bda8+bob=example.com@SHOP.example",
            "bob@example.com",
        ),
        ("b+{id}+{recipient}@shop.example", "b+j1+bob+x=example.com@shop.example", "bob+x@example.com"),
        ("{recipient}@b.shop.example", "bob+x=example.com@b.shop.example", "bob+x@example.com"),
        ("b.{recipient}@shop.example", "bXbob=example.com@shop.example", ANN),
        ("b+{id}@shop.example", "b+bob=example.com@shop.example", ANN),
        ("", "b+bob=example.com@shop.example", ANN),
        (None, "b+bob=example.com@shop.example", ANN),
    ],
)
def test_the_recipient_is_read_as_the_settings_had_it_written(path: str | None, to: str, address: str) -> None:
    """Guarantee: nobody is taken for another by a part of an address that only looks like one."""
    assert told(delivery(GONE, to=to), path) == [("bounce", address)]


@pytest.mark.parametrize("form", [PATH, "{recipient}@b.shop.example", "b+{id}+{recipient}@shop.example"])
@given(
    local=st.from_regex(r"[A-Za-z0-9+=._-]{1,40}", fullmatch=True),
    domain=st.from_regex(r"[a-z0-9-]{1,20}\.[a-z]{2,5}", fullmatch=True),
    id=st.from_regex(r"[a-z0-9_-]{1,40}", fullmatch=True),
)
def test_what_was_written_into_the_sender_is_read_again(form: str, local: str, domain: str, id: str) -> None:
    path, recipient = ReturnPath(form), f"{local}@{domain}"
    assert path.recipient_in(path.of(id).to(recipient)) == recipient


def test_the_sender_names_one_recipient_and_not_several() -> None:
    bob = GONE.replace("ann@", "bob@")
    found = told(delivery(GONE, bob, to="bounces+cleo=example.com@shop.example"))
    assert found == [("bounce", ANN), ("bounce", "bob@example.com")]


def test_status_parts_in_other_wrappings() -> None:
    whole = f"Reporting-MTA: dns; mx.example.net\n\n{GONE}\n"
    for encoding, status in (
        ("base64", b64encode(whole.encode()).decode()),
        ("quoted-printable", whole.replace("=", "=3D").replace("ann", "a=6En")),
    ):
        assert told(delivery(encoding=encoding, status=status)) == [("bounce", ANN)]
    assert told(delivery(GONE, kind="message/global-delivery-status")) == [("bounce", ANN)]
    assert told(delivery(GONE).replace(b"\r\n", b"\n")) == [("bounce", ANN)]
    assert told(delivery(encoding="base64", status="=")) == []


def test_only_the_beginning_is_read() -> None:
    assert told(delivery(GONE) + b"x" * 10_000_000) == [("bounce", ANN)]
    assert told(delivery(GONE)[:900]) == [("bounce", ANN)]
    with pytest.raises(BadReport):
        read_report(b"X: " + b"x" * LONGEST + delivery(GONE))


# --- complaints


@pytest.mark.parametrize(
    ("fields", "original", "address"),
    [
        ([f"Original-Rcpt-To: {ANN}"], "To: other@example.com", ANN),
        ([f"Original-Rcpt-To: <{ANN}>", "Original-Rcpt-To: bob@example.com"], "To: c@example.com", "c@example.com"),
        ([], f"X-HmXmrOriginalRecipient: {ANN}\nTo: other@example.com", ANN),
        (["Original-Mail-From: <bounces+ann=example.com@shop.example>"], "To: list@example.org", ANN),
        ([], "Return-Path: <bounces+ann=example.com@shop.example>\nTo: list@example.org", ANN),
        ([], f"To: Ann <{ANN}>", ANN),
        ([], f"To: {ANN}, bob@example.com", None),
        ([], f"To: {ANN}\nCc: bob@example.com", None),
        ([], "To: undisclosed-recipients:;", None),
        (["Original-Rcpt-To: redacted"], "X: y", None),
    ],
)
def test_who_complained(fields: list[str], original: str, address: str | None) -> None:
    assert told(complaint(*fields, original=original)) == ([] if address is None else [("complaint", address)])


def test_all_that_a_complaint_says() -> None:
    (event,) = read_report(complaint(f"Original-Rcpt-To: {ANN}"))
    assert (event.at, event.reference) == (datetime(2026, 3, 8, 18, tzinfo=UTC), "j1@shop.example")


@pytest.mark.parametrize("feedback", ["fraud", "virus", "not-spam", "auth-failure", ""])
def test_other_feedback_is_no_complaint(feedback: str) -> None:
    assert told(complaint(f"Original-Rcpt-To: {ANN}", feedback=feedback)) == []


def test_a_complaint_of_outlook() -> None:
    plain = f"X-HmXmrOriginalRecipient: {ANN}\nSubject: complaint about message from 192.0.2.1\n\n...".encode()
    assert told(plain) == [("complaint", ANN)]


# --- anything at all


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"Subject: I am on holiday\n\nUntil Monday.",
        b'Content-Type: multipart/report; boundary="x"\n\n--x\n--x--',
        b"Content-Type: multipart/report\n\n--x\nContent-Type: message/delivery-status\n\nAction: failed",
        b"\xff\xfe\x00" * 1000,
        b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\nContent-Type: multipart/mixed; boundary=x\n\n" * 5000,
    ],
    ids=["nothing", "empty", "holiday", "no-part", "no-boundary", "binary", "nested"],
)
def test_what_is_no_report(raw: bytes) -> None:
    with pytest.raises(BadReport, match="no report"):
        read_report(raw)


_PIECES = st.sampled_from(
    [
        *(line + b"\n" for line in delivery(GONE).split(b"\r\n")),
        *(line + b"\n" for line in complaint(f"Original-Rcpt-To: {ANN}").split(b"\n")),
        b"\n", b"\r\n", b" ", b"\t", b":", b"=", b"+", b"@", b"<", b">", b";", b"\xff", b"\x00",
        b"\\x{D800}", b"\\x{FFFFFF}",
        b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n",
        b"Date: Tue, 99 Mar 99999 10:00:00 +9999\n", b"Date: \xc2\xb2\n",
    ]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=60).map(b"".join) | st.binary(max_size=500))
def test_whatever_comes_is_events_or_one_error(raw: bytes) -> None:
    """Guarantee: no mail, however odd, is anything but events or a BadReport."""
    head = b'Content-Type: multipart/report; boundary="=_b/1"\n\n--=_b/1\nContent-Type: message/delivery-status\n\n'
    for each in (raw, head + raw):
        try:
            found = read_report(each, ReturnPath(PATH))
        except BadReport:
            continue
        assert all("@" in event.address and event.address.isprintable() for event in found)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [b"\n", b" \n", b"A:\n", b"a+", b"+=@", b"--=_b/1\n", b"Final-Recipient: a@b\n\n", b"boundary=", b"5.", b"@", b"a"],
)
def test_a_report_of_one_thing_again_and_again_is_read_in_time(unit: bytes) -> None:
    """It is some 256 KiB of each, which what is not linear would be at for hours."""
    many = unit * (LONGEST // len(unit))
    heads = (b"To: ", b"Content-Type: multipart/report; ", b"X-HmXmrOriginalRecipient: ", b"Date: ")
    for head in (b"", *heads, delivery(GONE)[:700], complaint()[:300]):
        try:
            read_report(head + many, ReturnPath(PATH))
        except BadReport:
            continue

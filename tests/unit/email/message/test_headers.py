"""Headers are read as they were given, by a reader that knows the RFCs alone and by the standard library's."""

from __future__ import annotations

import email
import email.policy
import random
import re
from base64 import b64decode
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.utils import getaddresses
from quopri import decodestring
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jetq_email.errors import Unsendable
from jetq_email.message import Email, compose

SENT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ALWAYS = ["from", "to", "subject", "date", "message-id", "content-type", "content-transfer-encoding", "mime-version"]


def head_of(**fields: Any) -> bytes:
    """The header lines of a mail, with their line ends."""
    given_fields = {"to": ["to@example.com"], "subject": "s", "text": "t", "sender": "from@example.com", **fields}
    message = compose(Email(**given_fields), job_id="j1", date=SENT).message
    return message.partition(b"\r\n\r\n")[0] + b"\r\n"


def headers_of(head: bytes) -> list[tuple[str, str]]:
    """Each header as RFC 5322 2.2.3 unfolds it."""
    unfolded = re.sub(r"\r\n(?=[ \t])", "", head.decode())
    assert "\r" not in unfolded.replace("\r\n", "")
    lines = unfolded.removesuffix("\r\n").split("\r\n")
    return [(name, value.removeprefix(" ")) for name, _, value in (line.partition(":") for line in lines)]


def value_of(head: bytes, name: str) -> str:
    (value,) = [value for each, value in headers_of(head) if each.lower() == name.lower()]
    return value


def decoded(text: str) -> str:
    """A text in which RFC 2047's encoded words are read, and the blanks between two of them are not."""
    read, last_was_encoded = "", False
    for blanks, word in re.findall(r"([ \t]*)([^ \t]*)", text):
        match = re.fullmatch(r"=\?utf-8\?([bq])\?([!->@-~]*)\?=", word)
        if match is None:
            read, last_was_encoded = read + blanks + word, False
            continue
        assert len(word) <= 75
        octets = b64decode(match[2]) if match[1] == "b" else decodestring(match[2].replace("_", " "))
        read += ("" if last_was_encoded else blanks) + octets.decode()
        last_was_encoded = True
    return read


def mailboxes_of(value: str) -> list[tuple[str, str]]:
    """Display names and addresses by RFC 5322's grammar, as far as mails need it."""
    found = []
    while value:
        match = re.match(r'\s*(?:("(?:[^"\\]|\\.)*"|[^",<]*?)\s*<([^<>]+)>|([^\s",<>]+))\s*(?:,|$)', value)
        assert match is not None, value
        quoted, inside, bare = match.groups()
        name = quoted or ""
        name = re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith('"') else decoded(name)
        found.append((name, inside or bare))
        value = value[match.end() :]
    return found


def assert_lines(head: bytes) -> None:
    for line in head.split(b"\r\n"):
        assert len(line) <= 998
        assert line == b"" or line.strip()
        if len(line) > 78:
            name = re.match(rb"[!-9;-~]+:", line)
            words = line[name.end() :] if name else line
            assert len(words.split()) == 1, f"{line!r} could have been folded"


ONE_LINE = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029")
ODD = (
    '=?utf-8?q?a=0D=0ABcc=3A_b?= =?utf-8?b?YQ==?= =? ?= ?q? " \\ , ; <a@b.example> (c) re: Straße'
    " 🎉 日本語 e\u0301 = _ a.b '"
).split()
WORDS = st.one_of(
    st.sampled_from([*ODD, "\u00a0", "a" * 90, f"https://shop.example.com/{'x' * 70}", "ü" * 60]),
    st.text(ONE_LINE, min_size=1, max_size=12),
)
BLANKS = st.sampled_from([" ", " ", " ", " ", "  ", "\t", "   "])


@st.composite
def texts(draw: st.DrawFn, longest: int = 400) -> str:
    words = draw(st.lists(WORDS, max_size=14))
    text = "".join(word + draw(BLANKS) for word in words)
    return (text if draw(st.integers(0, 9)) == 0 else text.strip(" \t"))[:longest]


def named(name: str, address: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{address}>'


def check_mail(subject: str, names: list[str], own: str) -> None:
    addresses = [f"user{place}@example.com" for place in range(len(names))]
    to = [named(name, address) for name, address in zip(names, addresses, strict=True)]
    head = head_of(subject=subject, to=to, headers={"X-Own": own})
    assert_lines(head)
    assert sorted(name.lower() for name, _ in headers_of(head)) == sorted([*ALWAYS, "x-own"])
    assert decoded(value_of(head, "Subject")) == subject
    assert decoded(value_of(head, "X-Own")) == own
    assert mailboxes_of(value_of(head, "To")) == list(zip(names, addresses, strict=True))
    library = email.message_from_bytes(head, policy=email.policy.compat32)
    assert sorted(name.lower() for name in library.keys()) == sorted([*ALWAYS, "x-own"])
    read = str(make_header(decode_header(library["subject"].replace("\r\n", ""))))
    assert read.split() == subject.split()
    assert [address for _, address in getaddresses([library["to"].replace("\r\n", "")])] == addresses


@given(subject=texts(), names=st.lists(texts(200), min_size=1, max_size=4), own=texts())
@settings(max_examples=300, deadline=None)
@example(subject="", names=[""], own="")
@example(subject="  ", names=[" a "], own="\t")
@example(subject="a  ß b", names=["a=?b", "?q?c?="], own="ß  a")
def test_a_mail_is_read_as_it_was_given(subject: str, names: list[str], own: str) -> None:
    """Guarantee: no header that was not given, and each as it was."""
    check_mail(subject, names, own)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_thousand_mails_are_read_as_they_were_given() -> None:
    """Made without hypothesis, which takes ten times as long."""
    drawn = random.Random(20_260_501)
    every = [
        chr(code)
        for code in (*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x4E00, 0x4E40), *range(0x1F600, 0x1F640))
    ]
    known = [*ODD, "a" * 90, "ü" * 60, f"https://shop.example.com/{'x' * 70}"]

    def text(longest: int) -> str:
        words = [
            drawn.choice(known) if drawn.random() < 0.3 else "".join(drawn.choices(every, k=drawn.randint(1, 12)))
            for _ in range(drawn.randint(0, 14))
        ]
        return "".join(word + drawn.choice((" ", " ", " ", "  ", "\t")) for word in words)[:longest].strip(" \t")

    for _ in range(20_000):
        check_mail(text(400), [text(200) for _ in range(drawn.randint(1, 4))], text(400))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("List-Unsubscribe", f"<https://shop.example.com/u?token={'x' * 120}>, <mailto:u@shop.example.com>"),
        ("In-Reply-To", f"<{'x' * 120}@mail.example.com>"),
        ("References", " ".join(f"<{n}{'x' * 60}@mail.example.com>" for n in range(5))),
        ("Feedback-ID", f"c{'x' * 120}:d:e:f"),
        ("X-SMTPAPI", '{"unique_args":{"user":"' + "x" * 120 + '"}}'),
    ],
)
def test_what_machines_read_stays_whole(name: str, value: str) -> None:
    head = head_of(headers={name: value})
    assert value_of(head, name) == value
    assert_lines(head)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("List-Unsubscribe", "<https://shop.example.com/abmelden?für=ann>"),
        ("List-Unsubscribe", "<https://shop.example.com/=?utf-8?q?x?=>"),
        ("In-Reply-To", f"<{'x' * 1000}@example.com>"),
        ("Sender", "no address"),
    ],
    ids=["not-ascii", "looks-encoded", "too-long", "no-address"],
)
def test_what_would_be_read_as_something_else_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unsendable, match=re.escape(f"headers['{name}']")):
        head_of(headers={name: value})


def test_a_word_longer_than_a_line_is_encoded() -> None:
    head = head_of(subject="x" * 2000, headers={"X-Own": "y" * 2000})
    assert_lines(head)
    assert decoded(value_of(head, "Subject")) == "x" * 2000
    assert decoded(value_of(head, "X-Own")) == "y" * 2000


@pytest.mark.parametrize("name", ["X", "X-" + "n" * 48, "X-" + "n" * 74])
@pytest.mark.parametrize("value", ["ß", "🎉" * 40, "a " * 60 + "ß", "ab"])
def test_a_long_name_leaves_room_for_what_is_encoded(name: str, value: str) -> None:
    head = head_of(headers={name: value})
    assert_lines(head)
    assert decoded(value_of(head, name).strip()) == value


def test_an_international_address_is_written_in_utf_8_and_all_else_encoded() -> None:
    head = head_of(
        to=['"Jörg, der Ältere" <jörg@example.com>'], subject="für Jörg", headers={"Sender": "Ö <o@example.com>"}
    )
    assert mailboxes_of(value_of(head, "To")) == [("Jörg, der Ältere", "jörg@example.com")]
    assert value_of(head, "Subject") == "=?utf-8?q?f=C3=BCr_J=C3=B6rg?="
    assert value_of(head, "Sender") == "=?utf-8?b?w5Y=?= <o@example.com>"

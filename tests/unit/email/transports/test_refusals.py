"""What is said of refused recipients: how many, and by which codes. Never who, and never in a server's words."""

from __future__ import annotations

import pytest
from aiosmtplib import SMTPResponseException
from hypothesis import given
from hypothesis import strategies as st

from jetq_email.outcomes import Refusal, Sent
from jetq_email.transports.smtp.replies import codes_of, enhanced


def sent(delivered: int, *replies: tuple[int, str]) -> Sent:
    refused = (Refusal(f"r{number}@example.com", code, reply) for number, (code, reply) in enumerate(replies))
    return Sent(tuple(f"d{number}@example.com" for number in range(delivered)), tuple(refused))


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (sent(0, (550, "")), "the recipient was refused: 550"),
        (sent(1, (550, "5.1.1")), "1 of 2 recipients was refused: 550 5.1.1"),
        (sent(2, (450, "4.9.9"), (550, ""), (550, "")), "3 of 5 recipients were refused: 550 twice, 450 4.9.9"),
        (sent(0, *[(554, "shop: no")] * 3), "3 of 3 recipients were refused: 554 shop: no 3 times"),
        (sent(0, *[(code, "") for code in range(550, 557)]),
         "7 of 7 recipients were refused: 550, 551, 552, 553, 554, others"),
    ],
)  # fmt: skip
def test_refusals_are_counted_by_what_was_replied(outcome: Sent, text: str) -> None:
    assert outcome.reason == text


def test_what_is_told_in_place_of_a_reply() -> None:
    assert Sent((), (Refusal("a@example.com", 550, "5.1.1 <a@example.com>", told="5.1.1"),)).reason.endswith(
        "550 5.1.1"
    )
    assert Sent((), (Refusal("a@example.com", 550, "<a@example.com>", told=""),)).reason.endswith("refused: 550")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("5.1.1 <a@example.com> is unknown", "5.1.1 (no such mailbox)"),
        ("5.7.1\nno", "5.7.1 (forbidden by the server's policy)"),
        ("4.99.7", "4.99.7"),
        *((reply, "") for reply in ("5.1.1x", "a@5.1.1", "5.1", "15.1.1", "5.1.1@example.com", "9.1.1", "", "no")),
    ],
)
def test_of_a_reply_its_second_code_is_told(reply: str, text: str) -> None:
    assert enhanced(reply) == text


def test_what_is_no_reply_is_told_without_its_words() -> None:
    assert codes_of(SMTPResponseException(-1, "Malformed SMTP response line: a@example.com")) == (
        "something that is no SMTP"
    )


@given(st.text())
def test_no_word_of_a_server_is_told(reply: str) -> None:
    """Guarantee: what is logged of a refusal has no server's words in it."""
    assert codes_of(SMTPResponseException(550, f"5.1.1 {reply}")) == "550 5.1.1 (no such mailbox)"
    assert codes_of(SMTPResponseException(451, f"<{reply}")) == "451"

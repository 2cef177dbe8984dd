"""What all providers have in common: how answers are read, and what a request holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent
from jetq_email.providers import PROVIDERS, Provider
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from tests.unit.email.providers.mails import ALL, full, made_of, only, without_pictures

ADDRESSES = ("ada@example.com", "bob@example.com", "cleo@example.com", "dan@example.com")

each = pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)


def told(about: str) -> bytes:
    """An answer that says `about` wherever one of the providers looks."""
    words = dict.fromkeys(("message", "Message", "name", "code", "__type"), about)
    return msgspec.json.encode({**words, "errors": [{"message": about}, about, None]})


def reason_of(answer: Answer) -> str:
    refused = [refusal.reply for refusal in answer.refused] if isinstance(answer, Sent) else [answer.reason]
    return " ".join(refused)


def test_all_of_them_are_here() -> None:
    assert [type(provider) for provider in ALL] == list(PROVIDERS.values())
    assert list(PROVIDERS) == [provider.name for provider in ALL]


# --- answers


@each
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (None, None, None),
        ("7", 7, 7),
        ("0", 0, 0),
        ("-5", 0, 0),
        ("1e99", 86400, 86400),
        ("nan", None, None),
        ("soon", None, None),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3000, 3600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None, None),
    ],
    ids=["none", "seconds", "zero", "negative", "endless", "nan", "words", "in an hour", "long ago", "never"],
)
def test_who_wants_fewer_mails(provider: Provider, header: str | None, least: float | None, most: float | None) -> None:
    answer = provider.read(Response(429, {} if header is None else {"retry-after": header}, told("slower")), full())
    assert isinstance(answer, Slower)
    if least is None or most is None:
        assert answer.after is None
    else:
        assert answer.after is not None and least <= answer.after <= most


@each
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_provider_that_fails(provider: Provider, status: int) -> None:
    assert isinstance(provider.read(Response(status, {}, b"<html>Bad gateway"), full()), Unavailable)


@each
def test_a_provider_that_is_away_for_a_while_says_so(provider: Provider) -> None:
    assert provider.read(Response(503, {"retry-after": "9"}, b""), full()) == Slower("503 Service Unavailable", 9)


@each
@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_key_that_is_wrong_is_no_fault_of_the_mail(provider: Provider, status: int) -> None:
    """Guarantee: what somebody can mend in the account or the settings kills no mail."""
    answer = provider.read(Response(status, {}, told("no")), full())
    assert isinstance(answer, Refused) and not answer.permanent


@each
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_mail_that_is_wrong_is_dead(provider: Provider, status: int) -> None:
    answer = provider.read(Response(status, {}, told("bad")), full())
    assert isinstance(answer, Refused) and answer.permanent


@each
@pytest.mark.parametrize("content", [b"", b"<html>", b'{"id":', b"[]", b"null", b'{"id":7,"MessageId":[],"x":1}'])
@pytest.mark.parametrize("status", [200, 201, 204, 302])
def test_success_that_says_nothing_is_unclear(provider: Provider, status: int, content: bytes) -> None:
    """Guarantee: a mail counts as sent by what only the provider's own answer says, not by the look of it."""
    assert isinstance(provider.read(Response(status, {}, content), full()), Unclear)


HOSTILE = [
    b"[" * 200_000,
    b'{"message":' * 50_000,
    b'{"message": ' + b"9" * 10_000 + b"}",
    b"\xff\xfe\x00",
    b'{"message": "\\ud800"}',
    b'{"ErrorCode": true, "Message": {"a": 1}, "errors": {"message": 1}, "MessageID": 5}',
    b'{"errors": [[[]], 7, {"message": null}], "code": [], "name": {}, "__type": 3}',
]


@each
@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("status", [200, 202, 400, 403, 409, 422, 429, 503])
def test_a_hostile_answer_raises_nothing(provider: Provider, status: int, content: bytes) -> None:
    assert isinstance(provider.read(Response(status, {}, content), full()), Answer)


WORDS = st.sampled_from(
    [b"{}", b"", told("ann@example.com wrote"), b'{"message": "x limit exceeded, try again after x"}']
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "x-ratelimit-reset", "ratelimit-reset", "x-sib-ratelimit-reset", "x-amzn-errortype"]
    ),
    st.text(max_size=40) | st.sampled_from(["1e400", "-0", "1_0", "Mon, 01 Jan 0001 00:00:00 -2359", "999999999999"]),
    max_size=3,
)


@each
@given(status=st.integers(100, 599), headers=HEADERS, content=st.binary(max_size=200) | WORDS)
def test_no_answer_raises(provider: Provider, status: int, headers: dict[str, str], content: bytes) -> None:
    """Guarantee: whatever a provider answers, the mail has an outcome."""
    answer = provider.read(Response(status, headers, content), full())
    assert isinstance(answer, Answer)
    if isinstance(answer, Slower) and answer.after is not None:
        assert 0 <= answer.after <= 86400


@each
@pytest.mark.parametrize("status", [200, 202, 400, 401, 403, 409, 422, 429, 500])
def test_no_reason_repeats_what_a_provider_says(provider: Provider, status: int) -> None:
    """Guarantee: what a provider says may be out of the mail, and is in no log line."""
    answer = provider.read(Response(status, {"x-amzn-errortype": "Dear Ada"}, told("Dear Ada, 1234 is it")), full())
    assert "Ada" not in reason_of(answer) and "1234" not in reason_of(answer)
    if isinstance(answer, Refused) and answer.said:
        assert "Dear Ada, 1234 is it" in answer.said


@each
@pytest.mark.parametrize("status", [200, 202, 400, 401, 403, 409, 422, 429, 500])
def test_no_reason_names_an_address(provider: Provider, status: int) -> None:
    """Guarantee: what a provider says of a recipient is in no log line."""
    for about in ("<ada@example.com> bounced", "x" * 900 + "bob@example.com", "to:cleo@example.com,dan@example.com"):
        answer = provider.read(Response(status, {"x-amzn-errortype": "a@b.example"}, told(about)), full())
        assert "@" not in reason_of(answer)
        assert "@" not in getattr(answer, "said", "")


# --- requests


def whole(provider: Provider, envelope: Envelope) -> str:
    """All that a request says, of a mail's bytes too."""
    request = provider.build(envelope)
    found = [request.content]
    if provider.name == "ses":
        found.append(msgspec.convert(msgspec.json.decode(request.content)["Content"]["Raw"]["Data"], bytes))
    return b"\n".join(found).decode("utf-8", "replace")


MAILS: dict[str, Callable[[], Envelope]] = {"brevo": without_pictures}


@each
def test_a_request_holds_every_part_of_a_mail(provider: Provider) -> None:
    """Guarantee: nothing of a mail is left out in silence."""
    said = whole(provider, MAILS.get(provider.name, full)())
    names = [
        *ADDRESSES,
        "shop@example.org",
        "help@example.org",
        "The Shop",
        "Hi!",
        "https://shop.example/u",
        "receipts",
    ]
    for part in [*names, "X-Order", "17", "YSxiDQo="]:
        assert part in said, part
    assert "cid:logo" in said
    if provider.name != "brevo":
        assert "iVBORw==" in said  # the picture
    if provider.shows:
        assert "invite.ics" in said
    else:
        assert "text/calendar" in said and "METHOD:REQUEST" in said


@each
@pytest.mark.parametrize("left", [("bob@example.com",), ("cleo@example.com",), ("dan@example.com",)])
def test_a_later_attempt_names_only_who_is_left(provider: Provider, left: tuple[str, ...]) -> None:
    """Guarantee: nobody is named who has the mail already, but in the headers that readers see."""
    request = provider.build(only(MAILS.get(provider.name, full)(), *left))
    if provider.name == "ses":
        named = msgspec.json.decode(request.content)["Destination"]
    elif provider.name == "mailgun":
        named = request.content.partition(b"message.eml")[0].decode()
    else:
        named = request.content.decode()
    assert [address for address in ADDRESSES if address in str(named)] == list(left)


@each
def test_the_same_mail_makes_the_same_request(provider: Provider) -> None:
    """Guarantee: a repeat says what was said before: a key that is used again has the content that it had."""
    mail = MAILS.get(provider.name, full)()
    first, second = provider.build(mail), provider.build(mail)
    assert (first.url, first.content) == (second.url, second.content)


@each
def test_an_international_address_is_refused_here(provider: Provider) -> None:
    with pytest.raises(Unsendable, match="SMTPUTF8"):
        provider.build(made_of(to=["jörg@example.com"]))
    provider.build(made_of(to=["joerg@exämple.com"]))


@each
def test_no_key_is_shown(provider: Any) -> None:
    assert "canary" not in repr(provider) + str(provider)

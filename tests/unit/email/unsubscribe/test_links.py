"""The links by which a recipient leaves a topic: their tokens, and the headers of the mails that have them."""

from __future__ import annotations

import email
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from jetq_email.errors import Unsendable
from jetq_email.message import Email, compose
from jetq_email.secret import Secret
from jetq_email.settings import Settings
from jetq_email.suppression import address_hash
from jetq_email.unsubscribe.links import Subscription, link_variables, read_token, token_of, with_link

URL = "https://shop.example/unsubscribe"
SECRET = Secret("a secret for tests")
SETTINGS = Settings(unsubscribe_url=URL, secret=(SECRET,))
MAILTO = Settings(unsubscribe_url=URL, secret=(SECRET,), unsubscribe_mailto="Lists <leave+x@shop.example>")

subscriptions = st.builds(
    Subscription,
    topic=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    hash=st.binary(min_size=20, max_size=20).map(bytes.hex),
)
secrets = st.text(min_size=16, max_size=40).filter(lambda text: not re.search("[\ud800-\udfff]", text)).map(Secret)


def mail(**fields: Any) -> Email:
    return Email(**{"to": ["ann@example.com"], "subject": "s", "text": "t", "sender": "shop@example.org", **fields})


def headers_of(written: Email) -> email.message.Message:
    envelope = compose(written, job_id="1", date=datetime.now(UTC))
    return email.message_from_bytes(envelope.message)


def token_in(headers: email.message.Message) -> str:
    found = re.fullmatch(rf"<{URL}/([A-Za-z0-9_-]+)>.*", " ".join(headers["List-Unsubscribe"].split()))
    assert found
    return found[1]


@given(subscriptions, secrets)
def test_a_token_is_read_as_what_it_was_made_of(subscription: Subscription, secret: Secret) -> None:
    token = token_of(subscription, secret)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,135}", token)
    assert read_token(token, [secret]) == subscription


@given(subscriptions, st.lists(secrets, min_size=1, max_size=4, unique=True), st.data())
def test_after_a_rotation_old_tokens_are_known_while_their_secret_is(
    subscription: Subscription, known: list[Secret], data: st.DataObject
) -> None:
    """Guarantee: a secret that stands behind the first still verifies, one that is gone does not."""
    signer = data.draw(st.sampled_from(known))
    token = token_of(subscription, signer)
    assert read_token(token, known) == subscription
    assert read_token(token, [secret for secret in known if secret != signer]) is None


@given(subscriptions, st.data())
def test_a_token_that_is_changed_cut_or_prolonged_is_none(subscription: Subscription, data: st.DataObject) -> None:
    """Guarantee: who has one link cannot make another of it."""
    token = token_of(subscription, SECRET)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("AZaz09-_. /=\n\u00e4"))
    assume(other != token[place])
    assert read_token(token[:place] + other + token[place + 1 :], [SECRET]) is None
    assert read_token(token[:place] + token[place + 1 :], [SECRET]) is None
    assert read_token(token[:place], [SECRET]) is None
    assert read_token(token + other, [SECRET]) is None


@given(st.text(max_size=250))
def test_whatever_stands_in_a_link_is_read_or_not_and_breaks_nothing(text: str) -> None:
    assert read_token(text, [SECRET]) is None


@given(subscriptions, subscriptions)
def test_the_signature_of_one_topic_is_not_that_of_another(one: Subscription, other: Subscription) -> None:
    assume(one != other)
    first, second = (urlsafe_b64decode(token_of(each, SECRET) + "==") for each in (one, other))
    mixed = urlsafe_b64encode(first[:-16] + second[-16:]).rstrip(b"=").decode()
    assert read_token(mixed, [SECRET]) is None


@pytest.mark.parametrize("topic", ["news", "offer", "offers"])
def test_a_token_is_written_in_one_way(topic: str) -> None:
    """Whatever bits of its last character nothing stands in."""
    token = token_of(Subscription(topic, "ab" * 20), SECRET)
    others = {token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"}
    assert [each for each in others if read_token(each, [SECRET])] == [token]


def test_a_token_says_no_address() -> None:
    subscription = Subscription("news", address_hash("ann@example.com"))
    assert len(token_of(subscription, SECRET)) == 55
    assert read_token(token_of(subscription, SECRET), []) is None


def test_a_mail_of_a_topic_has_both_headers() -> None:
    """Guarantee: RFC 8058: a mail with a topic has a link of its recipient's, and says that one click will do."""
    headers = headers_of(with_link(mail(topic="news"), SETTINGS))
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read_token(token_in(headers), [SECRET]) == Subscription("news", address_hash("Ann@Example.com"))


def test_a_mail_can_be_left_by_mail_too() -> None:
    headers = headers_of(with_link(mail(topic="news"), MAILTO))
    ways = headers["List-Unsubscribe"].split()
    assert ways[1] == "<mailto:leave%2Bx@shop.example?subject=unsubscribe%20news>"


def test_the_first_secret_signs() -> None:
    rotated = Settings(unsubscribe_url=URL, secret=(Secret("a secret that is new"), SECRET))
    token = token_in(headers_of(with_link(mail(topic="news"), rotated)))
    assert read_token(token, rotated.secret[:1]) and not read_token(token, [SECRET])


def test_the_same_mail_has_the_same_link_in_every_attempt() -> None:
    assert with_link(mail(topic="news"), SETTINGS) == with_link(mail(topic="news"), SETTINGS)


@pytest.mark.parametrize(
    "same", [{"cc": ["Ann <ANN@example.com>"]}, {"to": [], "bcc": ["ann@example.com"]}, {"to": ["ann@example.com"] * 2}]
)
def test_one_recipient_is_one_however_often_named(same: dict[str, Any]) -> None:
    assert token_in(headers_of(with_link(mail(**same, topic="news"), SETTINGS)))


@pytest.mark.parametrize("more", [{"to": ["ann@example.com", "bob@example.com"]}, {"bcc": ["archive@example.com"]}])
def test_several_recipients_of_a_topic_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Unsendable, match=r"(?s)2 recipients.*send_many") as caught:
        with_link(mail(**more, topic="news"), SETTINGS)
    assert "example.com" not in str(caught.value)
    own = {"list-unsubscribe": "<https://elsewhere.example/1>"}
    assert with_link(mail(headers=own, **more, topic="news"), SETTINGS).headers == own
    assert not with_link(mail(**more, topic="news"), Settings()).headers


def test_without_a_topic_or_url_there_is_no_link() -> None:
    for written, topic, settings in ((mail(), None, SETTINGS), (mail(), "news", Settings())):
        assert with_link(replace(written, topic=topic), settings).headers == {}
        assert link_variables(written.to, topic, {}, settings) == {}


def test_a_topic_that_there_is_not_is_refused() -> None:
    named = Settings(topics=("news", "offers"))
    assert with_link(mail(topic="news"), named).headers == {}
    with pytest.raises(Unsendable, match=r"(?s)'new': there is no such topic.*news, offers"):
        with_link(mail(topic="new"), named)
    with pytest.raises(Unsendable, match="not one word"):
        with_link(mail(topic="a b"), Settings())


def test_templates_know_the_link() -> None:
    known = link_variables(["ann@example.com"], "news", {}, SETTINGS)
    assert known["unsubscribe_url"] == f"{URL}/{token_in(headers_of(with_link(mail(topic='news'), SETTINGS)))}"

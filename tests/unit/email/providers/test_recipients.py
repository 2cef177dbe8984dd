"""Whom requests name, and in how many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq_email.message import Envelope
from jetq_email.message.address import Mailbox
from jetq_email.providers import Provider
from jetq_email.providers.recipients import in_requests, places
from tests.unit.email.providers.mails import ALL, made_of, only

each = pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.name)


def users(count: int, of: str) -> list[str]:
    return [f"{of}{number}@example.com" for number in range(count)]


def named(envelope: Envelope) -> tuple[list[str], list[str], list[str]]:
    def of(mailboxes: list[Mailbox]) -> list[str]:
        return [each.address.partition("@")[0] for each in mailboxes]

    found = places(envelope)
    return of(found.to), of(found.cc), of(found.bcc)


def test_each_place_names_its_own() -> None:
    mail = made_of(to=["a@x.com", "b@x.com"], cc=["c@x.com"], bcc=["d@x.com"])
    assert named(mail) == (["a", "b"], ["c"], ["d"])
    assert named(only(mail, "b@x.com", "d@x.com")) == (["b"], [], ["d"])


def test_somebody_stands_in_to() -> None:
    mail = made_of(to=["a@x.com"], cc=["c@x.com"], bcc=["d@x.com"])
    assert named(only(mail, "c@x.com", "d@x.com")) == (["c"], [], ["d"])
    assert named(only(mail, "d@x.com")) == (["d"], [], [])


def test_nobody_is_named_twice() -> None:
    mail = made_of(to=["a@x.com", "A <a@x.com>"], cc=["a@x.com", "c@x.com", "C@x.com"], bcc=["c@x.com"])
    assert named(mail) == (["a"], ["c"], [])


@each
def test_many_recipients_are_in_as_many_requests_as_it_wants(provider: Provider) -> None:
    mail = made_of(to=users(2 * provider.most + 1, "t"))
    parts = in_requests(provider, mail)
    assert [len(part.recipients) for part in parts] == [provider.most, provider.most, 1]
    assert [each for part in parts for each in part.recipients] == list(mail.recipients)


@each
def test_the_hidden_are_not_shown_to_each_other(provider: Provider) -> None:
    """Guarantee: no recipient of `bcc` reads the address of another, however few recipients are left."""
    mail = made_of(bcc=users(3, "b"))
    parts = in_requests(provider, mail)
    if provider.shows:
        assert [part.recipients for part in parts] == [(each,) for each in mail.recipients]
    else:
        assert parts == [mail]


@each
@given(
    to=st.integers(0, 5),
    cc=st.integers(0, 5),
    bcc=st.integers(0, 5),
    keep=st.sets(st.integers(0, 14)),
    most=st.integers(1, 4),
)
def test_everybody_is_in_one_request_and_nobody_hidden_is_seen(
    provider: Provider, to: int, cc: int, bcc: int, keep: set[int], most: int
) -> None:
    everybody = [*users(to, "t"), *users(cc, "c"), *users(bcc, "b")]
    left = [each for at, each in enumerate(everybody) if at in keep]
    if not left:
        return
    mail = only(made_of(to=users(to, "t"), cc=users(cc, "c"), bcc=users(bcc, "b")), *left)

    class Small:
        name, repeats, shows = provider.name, provider.repeats, provider.shows
        build, read = provider.build, provider.read

    Small.most = most  # type: ignore[attr-defined]
    parts = in_requests(Small, mail)  # type: ignore[arg-type]
    assert [each for part in parts for each in part.recipients] == left
    for part in parts:
        assert len(part.recipients) <= most
        if provider.shows:
            found = places(part)
            seen = [each.address for each in (*found.to, *found.cc)]
            assert sorted([*seen, *(each.address for each in found.bcc)]) == sorted(part.recipients)
            assert seen and (len(part.recipients) == 1 or not any(address.startswith("b") for address in seen))

"""Whom a request to a provider names: in as many requests as it takes, and where in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope
from jetq_email.message.address import Mailbox
from jetq_email.providers.exchange import Provider

__all__ = ["Places", "check_addresses", "in_ascii", "in_requests", "places"]


def in_requests(provider: Provider, envelope: Envelope) -> list[Envelope]:
    """Return `envelope` in as many as `provider` wants requests.

    Where readers would see whom a request names, those that are hidden are named each alone, unless somebody is named
    beside them whom all may see.
    """
    count, most = len(envelope.recipients), provider.most
    parts = [replace(envelope, recipients=envelope.recipients[at : at + most]) for at in range(0, count, most)]
    if not provider.shows:
        return parts
    return [each for part in parts for each in ([part] if _shown_in(part) else _one_by_one(part))]


def _shown_in(envelope: Envelope) -> list[Mailbox]:
    return envelope.left_of([*envelope.fields.to, *envelope.fields.cc])


def _one_by_one(envelope: Envelope) -> Iterator[Envelope]:
    return (replace(envelope, recipients=(each,)) for each in envelope.recipients)


class Places(Struct, frozen=True):
    """Whom a request names, and where: nobody twice, and somebody in `to`, which every provider wants."""

    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[Mailbox]

    @property
    def filled(self) -> Iterator[tuple[str, list[Mailbox]]]:
        """The places that name somebody."""
        return ((name, each) for name in ("to", "cc", "bcc") if (each := getattr(self, name)))


def places(envelope: Envelope) -> Places:
    """Whom a request for `envelope` names. In a later attempt those of `to` may have the mail already: then those of
    `cc` stand there, or the one that is hidden."""
    seen: set[str] = set()

    def new(mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        found = [each for each in envelope.left_of(mailboxes) if each.address.lower() not in seen]
        named = {each.address.lower(): each for each in reversed(found)}  # the first of those that differ in case alone
        seen.update(named)
        return list(reversed(named.values()))

    to, cc, bcc = (new(each) for each in (envelope.fields.to, envelope.fields.cc, envelope.fields.bcc))
    if not to:
        to, cc = cc, to
    return Places(to, cc, bcc) if to else Places(bcc[:1], [], bcc[1:])


def in_ascii(envelope: Envelope) -> tuple[Envelope, tuple[str, ...]]:
    """Return `envelope` for those whom a provider can write to, and the others, of whom there is a letter beyond ASCII
    before the @. As it came, if nobody can get it: then `check_addresses` says so."""
    able = tuple(each for each in envelope.recipients if each.isascii())
    if not envelope.smtputf8 or envelope.without_utf8 is None or not able:
        return envelope, ()
    others = tuple(each for each in envelope.recipients if not each.isascii())
    return replace(envelope, message=envelope.without_utf8, recipients=able, smtputf8=False), others


def check_addresses(provider: Provider, envelope: Envelope) -> None:
    """Raise Unsendable if an address is one that `provider` cannot send from or to: beyond ASCII before the @."""
    if envelope.smtputf8:
        raise Unsendable(
            f"{provider.name} does not take international addresses (SMTPUTF8)",
            hint="use an ASCII address, or an SMTP server with that extension",
        )

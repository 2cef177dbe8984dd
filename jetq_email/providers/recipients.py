"""Chooses the recipients of each request to a provider, and where a request names them."""

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
    """Split `envelope` into one envelope for each request that `provider` needs.

    If readers would see the recipients of a request, each hidden recipient gets a request of their own, unless the
    request also names a recipient that everybody may see.
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
    """The recipients that a request names, and where. Nobody is named twice, and `to` is not empty, as every provider
    demands."""

    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[Mailbox]

    @property
    def filled(self) -> Iterator[tuple[str, list[Mailbox]]]:
        """The places that name somebody, each with its mailboxes."""
        return ((name, each) for name in ("to", "cc", "bcc") if (each := getattr(self, name)))


def places(envelope: Envelope) -> Places:
    """Return the recipients of a request for `envelope`. In a later attempt those of `to` may have the mail already;
    then `to` names those of `cc`, or one hidden recipient."""
    seen: set[str] = set()

    def new(mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        found = [each for each in envelope.left_of(mailboxes) if each.address.lower() not in seen]
        named = {each.address.lower(): each for each in reversed(found)}  # the first of those that differ only in case
        seen.update(named)
        return list(reversed(named.values()))

    to, cc, bcc = (new(each) for each in (envelope.fields.to, envelope.fields.cc, envelope.fields.bcc))
    if not to:
        to, cc = cc, to
    return Places(to, cc, bcc) if to else Places(bcc[:1], [], bcc[1:])


def in_ascii(envelope: Envelope) -> tuple[Envelope, tuple[str, ...]]:
    """Return `envelope` for the recipients that a provider can write to, and the other recipients, whose addresses have
    a letter beyond ASCII before the @. If nobody can get the mail, `envelope` is returned unchanged, and
    `check_addresses` raises."""
    able = tuple(each for each in envelope.recipients if each.isascii())
    if not envelope.smtputf8 or envelope.without_utf8 is None or not able:
        return envelope, ()
    others = tuple(each for each in envelope.recipients if not each.isascii())
    return replace(envelope, message=envelope.without_utf8, recipients=able, smtputf8=False), others


def check_addresses(provider: Provider, envelope: Envelope) -> None:
    """Raise Unsendable for an address that `provider` cannot send from or to, with a letter beyond ASCII before the
    @."""
    if envelope.smtputf8:
        raise Unsendable(
            f"{provider.name} does not take international addresses (SMTPUTF8)",
            hint="use an ASCII address, or an SMTP server with that extension",
        )

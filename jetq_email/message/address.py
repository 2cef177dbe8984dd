"""Reads and checks mail addresses, one per text. International domains are converted to ASCII."""

from __future__ import annotations

import re

import idna
from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.message.lines import one_line

__all__ = ["Mailbox", "ReturnPath", "parse_mailbox", "parse_return_path"]

_LOCAL_LENGTH = 64
_ADDRESS_LENGTH = 254
"""Octets. RFC 5321 4.5.3.1 allows a path of 256, with its angle brackets."""

_NAME_LENGTH = 256

_ID, _RECIPIENT = "{id}", "{recipient}"
_ID_STANDS, _RECIPIENT_STANDS = "=id=", "=to="
"""Placeholders for `{id}` and `{recipient}` while the address is checked. They are allowed before the @ and not after
it."""

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Mailbox(Struct, frozen=True):
    """One checked address. `domain` is ASCII (international names are `xn--` labels); `local` may have other
    characters."""

    name: str
    local: str
    domain: str

    @property
    def address(self) -> str:
        """`local@domain`, as in the envelope."""
        return f"{self.local}@{self.domain}"

    @property
    def formatted(self) -> str:
        """The address with its display name, if there is one, as one text in Unicode that `parse_mailbox` reads. The
        name is quoted."""
        if not self.name:
            return self.address
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{name}" <{self.address}>'

    @property
    def is_ascii(self) -> bool:
        """Whether a server without SMTPUTF8 can take the address. The display name does not matter, because it is
        always encoded."""
        return self.local.isascii()


class ReturnPath(Struct, frozen=True):
    """The address that bounces go to: it is in the envelope, and no header shows it. It is empty for a mail that must
    not be answered by a bounce (RFC 5321 4.5.5). It may hold `{id}` and `{recipient}`."""

    address: str

    @property
    def names_recipient(self) -> bool:
        """Whether each recipient has a bounce address of their own."""
        return _RECIPIENT in self.address

    def of(self, job_id: str) -> ReturnPath:
        """Return the path with `{id}` replaced by the id of a job."""
        return ReturnPath(self.address.replace(_ID, job_id.replace(":", "+")))

    def to(self, recipient: str) -> str:
        """Return the bounce address of a mail to `recipient`, which `ann@example.com` is part of as
        `ann=example.com`."""
        return self.address.replace(_RECIPIENT, recipient.replace("@", "="))

    def recipient_in(self, address: str) -> str | None:
        """Return the recipient that `to` has put into `address`; None if `address` is not made from this path."""
        form = re.escape(self.address).replace(re.escape(_ID), "[^+@]{1,200}")
        form = form.replace(re.escape(_RECIPIENT), "(.{1,64})=([^=@]{1,253})")
        found = re.fullmatch(form, address, re.IGNORECASE) if self.names_recipient else None
        return None if found is None else f"{found[1]}@{found[2]}"


def parse_return_path(text: str, field: str) -> ReturnPath:
    """Return the bounce address in `text`: `bounces@example.com`, `bounces+{recipient}@example.com`, or `<>` for none.

    Raises Unsendable, naming `field`.
    """
    if text.strip() == "<>":
        return ReturnPath("")
    mailbox = parse_mailbox(text.replace(_ID, _ID_STANDS).replace(_RECIPIENT, _RECIPIENT_STANDS), field)
    if "{" in mailbox.local or "}" in mailbox.local:
        raise Unsendable(f"{field}: it has something in braces that is unknown", hint="known: {id} and {recipient}")
    address = mailbox.address.replace(_ID_STANDS, _ID).replace(_RECIPIENT_STANDS, _RECIPIENT)
    return ReturnPath(address)


def parse_mailbox(text: str, field: str) -> Mailbox:
    """Return the mailbox in `text`: `ada@example.com`, `Ada Lovelace <ada@example.com>` or `"Lovelace, Ada"
    <ada@example.com>`.

    Raises Unsendable, naming `field`, for a text that is not exactly one address. The error's message does not hold the
    text, because a worker logs it.
    """
    problem = f"{field}: not a mail address"
    name, address = _split(one_line(text, field).strip(), problem)
    local, at, domain = address.rpartition("@")
    if not at:
        raise Unsendable(f"{problem}: it has no @")
    if not _LOCAL.fullmatch(local) or "=?" in local:  # mail programs would take it for an encoded word
        raise Unsendable(f"{problem}: what stands before the @ is not allowed there")
    if len(local.encode()) > _LOCAL_LENGTH:
        raise Unsendable(f"{problem}: more than {_LOCAL_LENGTH} octets stand before the @")
    mailbox = Mailbox(name=name, local=local, domain=_ascii_domain(domain, problem))
    if len(mailbox.address.encode()) > _ADDRESS_LENGTH:
        raise Unsendable(f"{problem}: it is longer than {_ADDRESS_LENGTH} octets")
    return mailbox


def _split(text: str, problem: str) -> tuple[str, str]:
    """Return the display name, unquoted, and the bare address."""
    if not text.endswith(">"):
        if "," in text or ";" in text:
            raise Unsendable(f"{problem}: it looks like several", hint="pass a list with one address in each item")
        return "", text
    name, bracket, address = text[:-1].rpartition("<")
    if not bracket:
        raise Unsendable(f"{problem}: it has a '>' without a '<'")
    name = name.strip()
    if _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    elif any(character in name for character in ',;<>"'):
        raise Unsendable(
            f'{problem}: its display name contains one of , ; < > " and is not quoted',
            hint='quote the name: "Lovelace, Ada" <ada@example.com>; several addresses go into a list',
        )
    if len(name) > _NAME_LENGTH:
        raise Unsendable(f"{problem}: its display name is longer than {_NAME_LENGTH} characters")
    return name, address.strip()


def _ascii_domain(domain: str, problem: str) -> str:
    if domain.isascii():
        ascii_domain = domain.lower()
    else:
        # IDNA 2008. The standard library has that of 2003, which would turn straße.de into another owner's strasse.de.
        try:
            ascii_domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise Unsendable(f"{problem}: what stands behind the @ is not a domain name") from None
    if len(ascii_domain) > 253 or not all(_LABEL.fullmatch(label) for label in ascii_domain.split(".")):
        raise Unsendable(f"{problem}: what stands behind the @ is not a domain name")
    return ascii_domain

"""The list of recipients who must not get mail: addresses that bounced or complained, and topics that were declined.

An address is stored as its hash, so that nobody can read addresses in the records. The hash is not anonymous: with an
address one can find out whether it is on the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import msgspec
from msgspec import Struct

from jetq import Jetq, Record, Records
from jetq_email.errors import Unsendable
from jetq_email.message.address import parse_mailbox
from jetq_email.message.lines import one_word

__all__ = ["RECORDS", "Reason", "Suppressed", "Suppression", "address_hash", "check_topic"]

Reason = Literal["bounce", "complaint", "unsubscribed", "manual"]

RECORDS = "jetq_email"
"""The name under which jetq_email keeps all of its records."""

_EVERYTHING = "suppressed"
_TOPICS = "unwanted"
_NEVER = datetime.fromtimestamp(0, UTC)
_LIFTED_FOR = 60 * 86400.0
"""Seconds for which it is remembered that a topic is wanted again, for a job that says the opposite, was stored earlier
and runs later. The time is longer than dead letters are kept by default."""


class Suppressed(Struct, frozen=True, omit_defaults=True):
    """Why an address gets no mail, or no mail of a topic.

    source: who said so, such as a provider's name or `cli`. at: since when, aware UTC. topic: None means all mail.
    detail: what a server said, without addresses. address: only if the settings say that addresses are kept. hash: see
    `address_hash`. lifted: the entry no longer holds, because the topic is wanted again since `at`.
    """

    reason: Reason
    source: str
    at: datetime
    topic: str | None = None
    detail: str | None = None
    address: str | None = None
    hash: str = ""
    lifted: bool = False


_decode = msgspec.json.Decoder(Suppressed).decode
_encode = msgspec.json.Encoder().encode


def address_hash(address: str) -> str:
    """Return the hash of an address: the first 40 hexadecimal digits of a SHA-256. Neither the case of the address nor
    the form of its domain changes the hash."""
    return sha256(_plain(address).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _plain(address: str) -> str:
    try:
        return parse_mailbox(address, "address").address.lower()
    except Unsendable:  # a server or provider reports an address that jetq_email would not write to
        return address.strip().lower()


def check_topic(topic: str, known: Sequence[str] = ()) -> str:
    """Return `topic` if it can be a topic and, if any are `known`, is one of these. Raises Unsendable."""
    one_word(topic, "topic")
    if known and topic not in known:
        raise Unsendable(f"topic {topic!r}: there is no such topic", hint=f"JETQ_EMAIL_TOPICS has {', '.join(known)}")
    return topic


class Suppression:
    """The list of who gets no mail, of one app: the given app, else the app whose job runs here, else the default
    app."""

    def __init__(self, app: Jetq | None = None) -> None:
        self._records = Records(RECORDS, app)

    @property
    def app(self) -> Jetq:
        """The app whose list this is, here and now."""
        return self._records.app

    async def find(self, address: str, topic: str | None = None) -> Suppressed | None:
        """Return why `address` gets no mail, or no mail of `topic`; None if it gets mail. Raises BrokerError."""
        return await self.find_hash(address_hash(address), topic)

    async def find_hash(self, hash: str, topic: str | None = None) -> Suppressed | None:
        """Do as `find` for an address whose hash is known."""
        keys = [f"{_EVERYTHING}.{hash}", *([] if topic is None else [f"{_TOPICS}.{topic}.{hash}"])]
        for key in keys:
            record = await self._records.aget(key)
            why = None if record is None else _read(record.value, hash)
            if why is not None and not why.lifted:
                return why
        return None

    async def of(self, addresses: Iterable[str], topic: str | None = None) -> Mapping[str, Suppressed]:
        """Return those of `addresses` that get no mail, each with the reason. Raises BrokerError."""
        asked = list(addresses)
        found = await asyncio.gather(*(self.find(address, topic) for address in asked))
        return {address: why for address, why in zip(asked, found, strict=True) if why is not None}

    async def add(
        self,
        address: str,
        reason: Reason,
        source: str,
        *,
        topic: str | None = None,
        detail: str | None = None,
        keep_address: bool = False,
    ) -> bool:
        """Let `address` get no mail from now on, or no mail of `topic`. Return False if it is on the list already; its
        entry stays."""
        kept = _plain(address) if keep_address else None
        why = Suppressed(reason, source, datetime.now(UTC), topic, detail, kept)
        return await self.add_hash(address_hash(address), why)

    async def add_hash(self, hash: str, why: Suppressed) -> bool:
        """Do as `add` for an address whose hash is known."""
        key = _key(hash, why.topic)
        while True:
            record = await self._records.aget(key)
            if record is not None and not _read(record.value, hash).lifted:
                return False
            if await self._records.aput(key, _encode(why), expected=_version(record)) is not None:
                return True

    async def decide(self, hash: str, topic: str, *, wanted: bool, source: str, at: datetime | None = None) -> None:
        """Note whether somebody wants mail of `topic`, as they said at `at`. The latest statement holds, in whatever
        order the statements are noted. Without `at` this statement is the latest."""
        key = _key(hash, topic)
        while True:
            record = await self._records.aget(key)
            before = _NEVER if record is None else _read(record.value, hash).at
            said = max(before, datetime.now(UTC)) if at is None else at
            if said < before:
                return
            why = Suppressed("unsubscribed", source, said, topic, lifted=wanted)
            ttl = _LIFTED_FOR if wanted else None
            if await self._records.aput(key, _encode(why), ttl=ttl, expected=_version(record)) is not None:
                return

    async def declines(self, hash: str, topic: str) -> bool:
        """Return whether somebody has declined `topic`, whatever the list says about all mail."""
        record = await self._records.aget(_key(hash, topic))
        return record is not None and not _read(record.value, hash).lifted

    async def remove(self, address_or_hash: str, topic: str | None = None) -> bool:
        """Take an address, or the hash of an address, off the list. Return False if it is not on the list."""
        hash = address_or_hash if "@" not in address_or_hash else address_hash(address_or_hash)
        key = _key(hash, topic)
        record = await self._records.aget(key)
        if record is None or not await self._records.aremove(key):
            return False
        return not _read(record.value, hash).lifted

    async def each(self) -> AsyncIterator[Suppressed]:
        """Yield the whole list: first the entries about all mail, then those about topics."""
        for below in (_EVERYTHING, _TOPICS):
            async for record in self._records.aeach(below):
                why = _read(record.value, record.key.rpartition(".")[2])
                if not why.lifted:
                    yield why


def _key(hash: str, topic: str | None) -> str:
    return f"{_EVERYTHING}.{hash}" if topic is None else f"{_TOPICS}.{one_word(topic, 'topic')}.{hash}"


def _version(record: Record | None) -> int:
    return 0 if record is None else record.version


def _read(value: bytes, hash: str) -> Suppressed:
    """Return the entry in a record. A record that cannot be read suppresses too, because somebody has written it to
    suppress."""
    try:
        why = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        why = Suppressed("manual", "a record that cannot be read", _NEVER)
    return msgspec.structs.replace(why, hash=hash)

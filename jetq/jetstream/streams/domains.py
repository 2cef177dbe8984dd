"""JetStream domains: one account may reach more than one JetStream, e.g. where a leaf node has its own.

A message goes wherever somebody listens to its subject. So two streams of the same subjects in two domains store each
job twice, and both jobs are run. The answers show this: each stream answers a publish once, and each answer names the
stream's domain (nats-server 2.15.1; an answer that is an error names the stream alone).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from jetq.errors import BrokerError, TopologyError
from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block

__all__ = ["STORES_NOTHING", "DomainWatch", "refuse_twofold", "takers"]

_log = logging.getLogger("jetq.jetstream")

STORES_NOTHING = {"Nats-Expected-Stream": "-"}
"""Headers with which a publish stores nothing: no stream has that name (nats-server 2.15.1 answers error 10060)."""

_TWOFOLD_HINT = (
    "set jetstream_domain (JETQ_JETSTREAM_DOMAIN) to the same domain everywhere and remove the streams in the other, "
    "or give one side another account or namespace"
)

_ANSWERS_WITHIN = 0.3
"""Seconds for the second answer. A leaf node is a network away; a domain that is farther away is noticed with the first
job."""


class _Answer(msgspec.Struct):
    stream: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


async def takers(connection: Connection, subject: str, *, enough: int) -> list[str]:
    """Return the names of the streams that store what is published on `subject`, one entry for each stream.

    Two streams of the same name give two entries. Returns at once when there are `enough` streams, or when nobody
    listens on `subject`.
    """
    names: list[str] = []
    heard = asyncio.Event()

    def hear(msg: Message) -> None:
        if msg.data:
            try:
                names.append(_decode(msg.data).stream)
            except msgspec.DecodeError:  # some listener that is no stream
                return
        if not msg.data or len(names) >= enough:
            heard.set()

    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, hear)
    try:
        await connection.publish(subject, b"", inbox, header_block(STORES_NOTHING))
        async with asyncio.timeout(_ANSWERS_WITHIN):
            await heard.wait()
    except (TimeoutError, BrokerError):
        pass
    finally:
        await subscription.unsubscribe()
    return names


async def refuse_twofold(
    connection: Connection, stream: str, subject: str, stands: Callable[[], Awaitable[bool]]
) -> None:
    """Raise TopologyError if a stream of this name in another domain takes `subject` too.

    `stands` returns whether jetq's own stream exists. If it exists and the server has no domain, nothing is asked:
    `DomainWatch` sees the second answer to a job.
    """
    ours = await stands()
    if ours and not connection.domain:
        return
    found = (await takers(connection, subject, enough=1 + ours)).count(stream)
    if found > ours and not (found == 1 and await stands()):  # somebody made our stream just now
        named = f"domain {connection.domain!r}" if connection.domain else "one without a name"
        raise TopologyError(
            f"another JetStream domain in this account has a stream {stream} too: each job would be stored and run "
            f"twice (this is {named})",
            hint=_TWOFOLD_HINT,
        )


class DomainWatch:
    """Recognises acknowledgements of other domains, and logs once which stream there stores the same messages."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reported: set[tuple[str, str]] = set()

    def is_foreign(self, stream: str, domain: str) -> bool:
        """Return whether an acknowledgement of `stream` in `domain` comes from a domain that jetq does not use here."""
        own = self._connection.domain
        if own is None or domain == own or not stream:
            return False
        if (stream, domain) not in self._reported:
            self._reported.add((stream, domain))
            _log.error(
                "stream %s of JetStream domain %r stores what is published here, in domain %r: what both have is "
                "run twice; %s",
                stream, domain, own, _TWOFOLD_HINT,
            )  # fmt: skip
        return True

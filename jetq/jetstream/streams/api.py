"""Requests to the JetStream API, and single messages read from a stream."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from jetq.errors import BrokerError, BrokerUnavailable, Denied
from jetq.jetstream.streams.refusals import HINTS
from jetq.jetstream.streams.server_clock import ServerClock
from jetq.jetstream.transport.api_prefix import api_prefix
from jetq.jetstream.transport.connection import Connection, NoReply, NoResponders, NotAllowed, Unsent
from jetq.jetstream.transport.message import Message, read_headers
from jetq.runtime.clock import steady

__all__ = ["EXPECTED", "NOT_FOUND", "Api", "ApiError", "StoredMessage"]

EXPECTED = "Nats-Expected-Last-Subject-Sequence"

NOT_FOUND = frozenset({10014, 10037, 10043, 10057, 10059})
"""Error codes for a consumer, message or stream that does not exist. A missing message is 10037 or 10057, depending on
the API."""

_NOT_NOW = 10008
"""JetStream is not available: there are three nodes, and no leader of the whole cluster."""

_RETRY_AFTER = 0.1
_ASK_AGAIN_AFTER = 1.0
"""Seconds. A request about a stream without a leader is never answered (nats-server 2.15, three nodes)."""
_NO_LEADER_HINT = "see `nats server report jetstream`, or try again in a moment"
_NO_ANSWER_HINT = "is the server overloaded or away, or does the user lack permission for this subject?"


class ApiError(BrokerError):
    """JetStream answered with an error. `err_code` is the server's own code, e.g. 10071."""

    def __init__(self, err_code: int, description: str, *, subject: str = "") -> None:
        super().__init__(f"JetStream refused {subject}: {description} (error {err_code})", hint=HINTS.get(err_code))
        self.err_code = err_code
        self.description = description


class _Error(Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(Struct):
    error: _Error | None = None


class StoredMessage(Struct, frozen=True):
    """One message as it is stored in a stream."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]
    stored_at: float


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

_NO_HEADERS: Mapping[str, str] = {}

_DIRECT_HEADERS = frozenset(
    {"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence"}
)


class Api:
    """The JetStream API of one domain over one connection. Every request ends within `timeout` seconds.

    `clock` has what is learnt of the server's time from the answers.
    """

    def __init__(self, connection: Connection, timeout: float, domain: str | None = None) -> None:
        self._connection = connection
        self._domain = domain
        self.prefix = api_prefix(domain)
        self.timeout = timeout
        self.clock = ServerClock()

    async def request(self, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask `$JS.API.<name>`, or the same API of the domain, and return the answer.

        Raises ApiError if the answer is an error, BrokerUnavailable if no answer comes, and Denied without the
        permission.
        """
        deadline = asyncio.get_running_loop().time() + self.timeout
        while True:
            asked = steady()
            answer = await self._ask(f"{self.prefix}.{name}", _encode(body) if body is not None else b"")
            with _legible(name):
                error = _decode_answer(answer.data).error
                decoded = _decode(answer.data)
            if error is None:
                self.clock.learn(asked, decoded)
                return decoded
            if error.err_code != _NOT_NOW:
                raise ApiError(error.err_code, error.description, subject=name)
            if asyncio.get_running_loop().time() + _RETRY_AFTER > deadline:
                raise BrokerUnavailable(f"JetStream cannot answer {name}: {error.description}", hint=_NO_LEADER_HINT)
            await asyncio.sleep(_RETRY_AFTER)

    async def place(self, subject: str) -> None:
        """Store an empty message on `subject`, unless a message is stored there.

        The caller does not learn of a failure.
        """
        with suppress(NoReply, NoResponders):
            await self._connection.request(
                subject, headers={EXPECTED: "0"}, timeout=self.timeout, again=_ASK_AGAIN_AFTER
            )

    async def _ask(self, subject: str, payload: bytes, *, stream: str = "") -> Message:
        """Send one request and return the answer. The request is repeated until the timeout: every request made here
        may be.

        "No responders" means a stream without a leader, or that JetStream is off (nats-server 2.15). For a direct get
        from `stream` it may also mean that there is no such stream. The stream's own API tells which, and NoResponders
        is raised if the stream does not exist. In a named domain, a stream that does not exist gives no answer at all
        (2.15.1).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        while True:
            try:
                left = max(deadline - loop.time(), 0.01)
                if stream and self._domain:
                    left = min(left, _ASK_AGAIN_AFTER)
                return await self._connection.request(subject, payload, timeout=left, again=_ASK_AGAIN_AFTER)
            except NoResponders:
                problem, hint = f"nobody answers {subject}: JetStream has no leader or is off", _NO_LEADER_HINT
                if stream and await self.stream_info(stream) is None:
                    raise
            except NotAllowed:
                raise Denied(subject) from None
            except Unsent:
                raise self._connection.why_down() from None
            except NoReply:  # raised also at once, when the connection is lost meanwhile
                problem, hint = f"no answer to {subject} within {self.timeout:g} s", _NO_ANSWER_HINT
                if stream and self._domain and await self.stream_info(stream) is None:
                    raise NoResponders(f"there is no stream {stream}") from None
            if loop.time() + _RETRY_AFTER > deadline:
                raise BrokerUnavailable(problem, hint=hint)
            await asyncio.sleep(_RETRY_AFTER)

    async def stream_info(self, stream: str) -> dict[str, Any] | None:
        """Return the answer to STREAM.INFO, or None if there is no such stream."""
        return await self._unless_missing(f"STREAM.INFO.{stream}")

    async def consumer_info(self, stream: str, consumer: str) -> dict[str, Any] | None:
        """Return the answer to CONSUMER.INFO, or None if there is no such consumer or stream."""
        return await self._unless_missing(f"CONSUMER.INFO.{stream}.{consumer}")

    async def consumers(self, stream: str) -> list[str]:
        """Return the names of a stream's consumers, at most the first 1,024."""
        return [str(name) for name in (await self.request(f"CONSUMER.NAMES.{stream}")).get("consumers") or ()]

    async def _unless_missing(self, name: str) -> dict[str, Any] | None:
        try:
            return await self.request(name)
        except ApiError as error:
            if error.err_code in NOT_FOUND:
                return None
            raise

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the last message on `subject`, which may hold wildcards; None if there is none.

        The leader is asked, so callers can rely on the answer. Any replica may answer a direct get, also a replica that
        lags behind and says that a job is gone which is still stored (nats-server 2.15.1, three nodes).
        """
        return await self._leaders(stream, {"last_by_subj": subject})

    async def message(self, stream: str, sequence: int) -> StoredMessage | None:
        """Return the message of the sequence `sequence`, as the leader has it; None if the message is gone."""
        return await self._leaders(stream, {"seq": sequence})

    async def first_message(self, stream: str, subject: str, sequence: int) -> StoredMessage | None:
        """Return the first message on `subject` from `sequence` on, as the leader has it; None if there is none."""
        return await self._leaders(stream, {"seq": sequence, "next_by_subj": subject})

    async def _leaders(self, stream: str, query: Mapping[str, Any]) -> StoredMessage | None:
        try:
            answer = await self.request(f"STREAM.MSG.GET.{stream}", query)
        except ApiError as error:
            if error.err_code in NOT_FOUND:
                return None
            raise
        with _legible(f"STREAM.MSG.GET.{stream}"):
            message = answer["message"]
            return StoredMessage(
                subject=message["subject"],
                sequence=message["seq"],
                data=b64decode(message.get("data", "")),
                headers=read_headers(b64decode(message.get("hdrs", ""))),
                stored_at=_timestamp(message["time"]),
            )

    async def next_message(self, stream: str, subject: str, sequence: int) -> StoredMessage | None:
        """Return the first message on `subject` from `sequence` on, as some replica has it; None if there is none."""
        return await self._direct(stream, {"seq": sequence, "next_by_subj": subject})

    async def replicas_message(self, stream: str, sequence: int) -> StoredMessage | None:
        """Return the message of the sequence `sequence`, as some replica has it; None if the message is gone."""
        return await self._direct(stream, {"seq": sequence})

    async def replicas_last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the last message on `subject`, as some replica has it; None if there is none."""
        return await self._direct(stream, {"last_by_subj": subject})

    async def _direct(self, stream: str, query: Mapping[str, Any]) -> StoredMessage | None:
        try:
            answer = await self._ask(f"{self.prefix}.DIRECT.GET.{stream}", _encode(query), stream=stream)
        except NoResponders:
            return None
        return _stored(answer, stream)

    async def last_of_each(self, stream: str, subject: str, *, most: int, bytes: int) -> list[StoredMessage]:
        """Return the last message, without its headers, of each subject that `subject`, which holds wildcards, matches:
        at most `most`, with about `bytes` bytes in all. Some replica answers, and may lag behind; what is missing has
        to be asked for one by one. Raises BrokerUnavailable if the answers do not end in time.
        """
        found: list[StoredMessage] = []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Message) -> None:
            message = _listed(answer, stream)
            if message is not None:
                found.append(message)
            elif not ended.done():  # a bare status ends the answers, also if there is nothing or nobody to answer
                ended.set_result(None)

        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox, on_answer)
        try:
            query = {"multi_last": [subject], "batch": most, "max_bytes": bytes}
            self._connection.send(f"{self.prefix}.DIRECT.GET.{stream}", _encode(query), inbox)
            async with asyncio.timeout(self.timeout):
                await ended
        except TimeoutError:
            raise BrokerUnavailable(f"the answers to {subject} did not end within {self.timeout:g} s") from None
        finally:
            await subscription.unsubscribe()
        return found

    async def purge(self, stream: str, subject: str, *, up_to: int | None = None) -> int:
        """Remove all messages on `subject`, or only those up to the sequence `up_to`; return how many were removed."""
        which = {"filter": subject} if up_to is None else {"filter": subject, "seq": up_to + 1}
        try:
            answer = await self.request(f"STREAM.PURGE.{stream}", which)
        except ApiError as error:
            if error.err_code in NOT_FOUND:
                return 0
            raise
        return int(answer.get("purged", 0))

    async def delete(self, stream: str, sequence: int) -> bool:
        """Remove one message. Return False if the message is gone already."""
        try:
            await self.request(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiError as error:
            if error.err_code not in NOT_FOUND:
                raise
            return False
        return True


def _stored(answer: Message, stream: str) -> StoredMessage | None:
    """Return the stored message in the answer to a direct get; None for an answer without one."""
    headers = answer.headers
    if "Nats-Sequence" not in headers:  # a bare status, e.g. 404; a stored message may have its own `Status`
        return None
    with _legible(f"DIRECT.GET.{stream}"):
        return StoredMessage(
            subject=headers["Nats-Subject"],
            sequence=int(headers["Nats-Sequence"]),
            data=answer.data,
            headers={name: value for name, value in headers.items() if name not in _DIRECT_HEADERS},
            stored_at=_timestamp(headers["Nats-Time-Stamp"]),
        )


def _listed(answer: Message, stream: str) -> StoredMessage | None:
    """Return the stored message, without its headers, in one of many answers; None for an answer without one.

    Read like this, a message costs a quarter of what reading all of its headers does (8 us, Python 3.11).
    """
    try:
        return StoredMessage(
            subject=_last_of(answer.block, b"\r\nNats-Subject: ").decode(),
            sequence=int(_last_of(answer.block, b"\r\nNats-Sequence: ")),
            data=answer.data,
            headers=_NO_HEADERS,
            stored_at=_timestamp(_last_of(answer.block, b"\r\nNats-Time-Stamp: ").decode()),
        )
    except ValueError:
        return _stored(answer, stream)


def _last_of(block: bytes, name: bytes) -> bytes:
    """Return the value of the last header that begins with `name`: the server's own come last. Raises ValueError if
    there is none."""
    start = block.rindex(name) + len(name)
    return block[start : block.index(b"\r\n", start)]


@contextmanager
def _legible(name: str) -> Iterator[None]:
    """Raise BrokerUnavailable for an answer that JetStream does not give, so that the caller may ask again."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:  # msgspec's own errors are ValueErrors
        raise BrokerUnavailable(
            f"the answer to {name} is not JetStream's ({type(error).__name__})",
            hint="is there something between jetq and the server?",
        ) from None


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

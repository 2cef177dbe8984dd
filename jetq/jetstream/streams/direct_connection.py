"""A connection of one thread, which writes a job to its socket and reads the acknowledgement itself."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Container

import msgspec

from jetq.errors import NotStored, PayloadTooLarge
from jetq.jetstream.streams.publisher import read_ack
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import frame, header_block
from jetq.jetstream.transport.parser import Parser, ProtocolError
from jetq.model.job import EnqueueReceipt, JobRecord
from jetq.runtime.forks import not_for_children

__all__ = ["SocketConnection"]

_WITHIN = 0.25
"""Seconds to wait for an acknowledgement. A caller without one asks again through the broker, which is more patient;
the stream knows the job's id."""

_LARGEST = 32 * 1024
"""The most bytes of arguments: any network takes them in less time than that."""

_READS = 10
_READ_SIZE = 4096
_PONG = b"PONG\r\n"
_GONE = select.POLLERR | select.POLLHUP | getattr(select, "POLLRDHUP", 0) if hasattr(select, "poll") else 0


class _Denied(ProtocolError):
    """The user may not publish on the job's subject."""


class SocketConnection:
    """See `jetq.broker.enqueueing.DirectConnection`.

    `sock` is connected and logged in, and is closed with this connection. `known` has the queues whose jobs may be
    stored. `message` returns a job's subject and headers. `domain` is that of JetStream.
    """

    def __init__(
        self,
        sock: socket.socket,
        inbox: str,
        known: Container[str],
        message: Callable[[JobRecord], tuple[str, dict[str, str]]],
        domain: str | None = None,
    ) -> None:
        sock.settimeout(_WITHIN)
        not_for_children(sock)
        self._sock = sock
        self._end = select.poll()
        self._end.register(sock, _GONE)
        self._inbox = inbox + "."
        self._known = known
        self._message = message
        self._domain = domain
        self._parser = Parser({b"1": self._hear})
        self._awaited = ""
        self._answer: Message | None = None
        self._last = False
        self.used = 0
        self.is_open = True
        sock.sendall(b"SUB %s.* 1\r\n" % inbox.encode())

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        if not job.fresh or job.queue not in self._known or job.level != "normal" or len(job.body) > _LARGEST:
            return None
        try:
            subject, headers = self._message(job)
        except PayloadTooLarge:
            return None
        if self._end.poll(0):  # the other side has hung up: what is written now goes nowhere
            self.close()
            return None
        try:
            answer = self._exchange(frame(subject, job.body, self._next_reply(), header_block(headers)))
            ack = read_ack(answer.data) if answer.data else None  # no data: a status, no stream takes it
        except _Denied:
            self.close()
            return None
        except (OSError, ProtocolError, msgspec.DecodeError) as error:
            self.close()
            raise NotStored(f"job {job.id} was sent, and not confirmed: {error}") from None
        except BaseException:  # perhaps in the middle of a word
            self.close()
            raise
        if ack is not None and ack.domain != self._domain and self._domain is not None:
            self._last, ack = True, None  # another JetStream took it: storing through the broker finds out
        if self._last:
            self.close()
        return None if ack is None or ack.error is not None else ack.receipt_of(job)

    def close(self) -> None:
        self.is_open = False
        self._sock.close()

    def _next_reply(self) -> str:
        self.used += 1
        self._awaited = f"{self._inbox}{self.used}"
        return self._awaited

    def _exchange(self, sent: bytes) -> Message:
        self._answer = None
        self._sock.sendall(sent)
        for _ in range(_READS):
            data = self._sock.recv(_READ_SIZE)
            if not data:
                break
            for word, rest in self._parser.feed(data):
                self._heed(word, rest)
            if self._answer is not None:
                return self._answer
        raise ProtocolError("no answer")

    def _heed(self, word: bytes, rest: bytes) -> None:
        if word == b"PING":
            self._sock.sendall(_PONG)
        elif word == b"-ERR":
            raise (_Denied if b"permissions violation" in rest.lower() else ProtocolError)(
                rest.decode(errors="replace")
            )
        elif word == b"INFO":  # the cluster has changed, or this server is about to leave it
            self._last = True

    def _hear(self, msg: Message) -> None:
        if msg.subject == self._awaited:
            self._answer = msg
        else:
            self._last = True  # a second answer: two streams take what is sent

"""The one place that knows nats-py's inside: a client of one TCP connection that says why the connection died.

nats-py does the handshake and authentication. Its reconnecting, reading, writing and dispatching are replaced, because
(2.16.0, read and run):
- a reconnect offers credentials in clear text when a `tls://` server answers without TLS, leaks a socket per failed
  attempt, and dies silently with an unexpected exception;
- an unexpected exception in the read loop (a header block of exactly `NATS/1.0`, a subject that is not UTF-8) ends it
  while the state stays "connected";
- its parser is misled by subjects that anybody may store, see `parser`;
- its flusher swallows cancellation, and a writer that waits for a connection that breaks may wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

import nats.errors
from nats.aio.client import Client as _NatsPyClient
from nats.aio.client import Srv
from nats.aio.transport import TcpTransport
from nats.protocol import command

from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.parser import Parser, ProtocolError
from jetq.runtime.forks import not_for_children

__all__ = ["NatsClient", "frame", "header_block"]

_READ_SIZE = 256 * 1024
_FEW = 1024
"""Bytes: the size of a job, or of some acknowledgements. So few bytes are read where they arrive, a loop turn earlier
than by the task that reads: this gives a fifth more `.delay` calls from ten threads, 7 % from one. More bytes are left
to the task, which gathers the bytes of a loop turn: a drain was 7 % slower without the gathering."""

_WRITE_AT_ONCE = 32 * 1024
"""Bytes. The rest of a large batch is made while the server stores its beginning: one caller stored 62k jobs/s instead
of 53k with 256 KiB. Less than 32 KiB changes nothing."""

_MOST_STORED = 32 * 1024 * 1024 - 8 * 1024
"""Bytes. JetStream stores no more than 32 MiB of a message, its subject included, whatever `max_payload` is
(nats-server 2.15.1: error 10077, "message too large")."""

_BEHIND = 64 * 1024
"""Bytes that the network has not taken, from which on writers wait. asyncio's own streams have the same limit."""

_PRIVATE_METHODS = (
    "_build_message",
    "_close",
    "_connect_command",
    "_connect_to_server",
    "_flush_pending",
    "_flusher",
    "_process_err",
    "_process_info",
    "_process_op_err",
    "_process_ping",
    "_process_pong",
    "_read_loop",
    "_select_next_server",
    "_send_command",
)
_PRIVATE_ATTRIBUTES = (
    "_current_server",
    "_error_cb",
    "_ping_interval_task",
    "_reading_task",
    "_server_info",
    "_server_pool",
    "_status",
    "_transport",
)


def _check_nats_py() -> None:
    missing = [name for name in _PRIVATE_METHODS if not hasattr(_NatsPyClient, name)]
    client, tcp = _NatsPyClient(), TcpTransport()  # type: ignore[no-untyped-call]
    missing += [name for name in _PRIVATE_ATTRIBUTES if not hasattr(client, name)]
    missing += [name for name in ("_io_reader", "_io_writer") if not hasattr(tcp, name)]
    if missing:
        raise ImportError(
            f"this jetq does not fit nats-py {version('nats-py')}, which lacks {', '.join(missing)}; "
            "install nats-py 2.16"
        )


_check_nats_py()


def header_block(headers: Mapping[str, str] | None) -> bytes:
    """Return `headers` as they go over the wire; no bytes if there are none.

    Raises ValueError for a name or value that would break out of its line.
    """
    if not headers:
        return b""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header's name or value contains a line break")
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def frame(subject: str, payload: bytes, reply: str, block: bytes) -> bytes:
    """Return a message as it goes over the wire. `block` has the message's headers, as `header_block` makes it."""
    if block:
        return command.hpub_cmd(subject, reply, block, payload)
    return command.pub_cmd(subject, reply, payload)


class NatsClient(_NatsPyClient):
    """A nats-py client of one TCP connection, which it never renews. Use it only on the loop it was made on.

    `secure`: refuse to speak in clear text. `complain` gets each error line of the server that does not end the
    connection, e.g. a permission that is missing. `lost` is done when the connection has ended, with the reason.
    `reached`: there was a TCP connection. `congested`: the network was behind at the last write, and a writer of more
    should await `drained` first. `limited` is called whenever the server tells its `max_payload` later on.
    """

    def __init__(self, *, secure: bool, complain: Callable[[str], None]) -> None:
        super().__init__()
        not_for_children(self)
        self._secure = secure
        self.complain = complain
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[bytes, Callable[[Message], None]] = {}
        self._out: list[bytes] = []
        self._out_size = 0
        self.congested = False
        self._server_said = ""
        self.limited: Callable[[], None] = _nothing
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.reached = False
        self.domain: str | None = None
        self._gathering = False
        self._answering: set[asyncio.Task[None]] = set()
        self._parser = Parser(self._handlers)

    # --- what the connection uses

    @property
    def greeting(self) -> dict[str, Any]:
        """The server's INFO; empty before the INFO came."""
        return self._server_info

    @property
    def most_stored(self) -> int:
        """The most bytes of headers and payload together that the server takes and stores in one message."""
        return min(int(self.max_payload), _MOST_STORED)

    @property
    def hung_up(self) -> bool:
        """Whether the server has closed its side."""
        return self._transport is not None and self._transport.at_eof()

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self._tcp._io_writer.get_extra_info("ssl_object") is not None

    @property
    def peer(self) -> str:
        """The server's address; empty if the address is not known any more."""
        address = self._tcp._io_writer.get_extra_info("peername")
        return str(address[0]) if address else ""

    def discovered_urls(self) -> list[str]:
        """Return the URLs of the other servers of the cluster, as the server told them."""
        return [uri.geturl() for uri in self.discovered_servers]

    def listen(self, sid: int, subject: str, handler: Callable[[Message], None]) -> None:
        """Call `handler` with each message on `subject`. `handler` must neither block nor raise."""
        self._handlers[b"%d" % sid] = handler
        self.write(command.sub_cmd(subject, "", sid))

    def unlisten(self, sid: int) -> None:
        """Tell the server that the interest is over; `forget` ends the delivery of messages under way."""
        self.write(command.unsub_cmd(sid, 0))

    def forget(self, sid: int) -> None:
        """Drop every message that still arrives for `sid`."""
        self._handlers.pop(b"%d" % sid, None)

    def send(self, subject: str, payload: bytes, reply: str = "", block: bytes = b"") -> None:
        """Write one message, at the end of this loop turn. `block` has its headers, as `header_block` makes it."""
        self.write(frame(subject, payload, reply, block))

    def send_each(self, subjects: Iterable[str], payload: bytes) -> None:
        """Write the same message to each of `subjects`. It is used for acks, which are as many as jobs."""
        message = payload.decode("ascii")
        rest = f" {len(message)}\r\n{message}\r\n"
        if words := "".join([f"PUB {subject}{rest}" for subject in subjects]):
            self.write(words.encode())

    def write(self, data: bytes) -> None:
        """Write protocol bytes in order, gathered per loop turn: one system call for many small messages."""
        if not self._out:
            self._loop.call_soon(self._write_out)
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > _WRITE_AT_ONCE:
            self._write_out()

    async def drained(self) -> None:
        """Wait until the network has taken most of what was written, or the connection is lost."""
        self._write_out()
        if self.is_connected:
            with contextlib.suppress(OSError):
                await self._tcp._io_writer.drain()
        self.congested = False

    def fileno(self) -> int:
        """Return the number of the client's socket; -1 while there is none."""
        writer = None if self._transport is None else self._tcp._io_writer
        return -1 if writer is None else int(writer.get_extra_info("socket").fileno())

    def heard(self) -> tuple[int, int]:
        """Return numbers that change with every sign of life: a word or message, or a good part of a large message."""
        return self._parser.words, self._parser.progress

    @property
    def receiving(self) -> bool:
        """Whether a good part of a large message has come, and the rest has not yet."""
        return self._parser.progress > 0

    def backlog(self) -> int:
        """Return how many bytes were written here that the operating system has not taken yet."""
        writer = self._tcp._io_writer
        return 0 if writer is None else int(writer.transport.get_write_buffer_size()) + self._out_size

    def drop(self, reason: str) -> None:
        """End the connection now, without a word to the server. `lost` tells `reason`, or the reason it told before."""
        self._status = _NatsPyClient.CLOSED
        if not self.lost.done():
            self.lost.set_result(reason)
        for task in (self._reading_task, self._ping_interval_task):
            if task is not None and task is not _current_task():
                task.cancel()
        self._handlers.clear()
        self._out.clear()
        if self._transport is not None and self._tcp._io_writer is not None:
            self._tcp._io_writer.transport.abort()

    @property
    def can_hand_over(self) -> bool:
        """Whether the socket can be used alone: TLS has state beside it, and on Windows an event loop keeps it."""
        return not self.encrypted and sys.platform != "win32"

    def hand_over(self) -> socket.socket:
        """End this client, but not its connection. Return the socket, which belongs to the caller from here on."""
        taken = socket.socket(fileno=os.dup(self._tcp._io_writer.get_extra_info("socket").fileno()))
        self.drop("handed over")
        return taken

    async def shutdown(self, grace: float) -> None:
        """Write what is buffered, as far as that takes no longer than `grace` seconds, and end the connection."""
        if self.is_connected:
            self._write_out()
            writer = self._tcp._io_writer
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(grace):
                    await writer.wait_closed()
        self.drop("closed")
        tasks = [task for task in (self._reading_task, self._ping_interval_task) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        await asyncio.sleep(0)  # lets the aborted transport close its socket

    def _write_out(self) -> None:
        if self._out and self.is_connected:
            chunks, self._out = self._out, []
            self._out_size = 0
            writer = self._tcp._io_writer
            writer.writelines(chunks)
            self.congested = writer.transport.get_write_buffer_size() > _BEHIND

    @property
    def _tcp(self) -> Any:
        # Any: the streams inside TcpTransport are nats-py's private matter and untyped there.
        return self._transport

    # --- what nats-py calls

    async def _select_next_server(self) -> None:
        # There is one server, and its first failure is the answer: nats-py would go on for ever and hide the reason.
        server: Srv = self._server_pool[0]
        await self._connect_to_server(server)
        self._current_server = server
        self.reached = True

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._secure and info.get("tls_available"):
            info["tls_required"] = True  # nats-py upgrades to TLS only if the server insists
        await super()._process_info(info, initial_connection)
        if isinstance(limit := info.get("max_payload"), int):  # nats-py takes only the first limit
            self._max_payload = limit
            self.limited()

    def _connect_command(self) -> bytes:
        # This is the last moment before the credentials are sent.
        if self._secure and self._tcp._io_writer.get_extra_info("ssl_object") is None:
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def _read_loop(self) -> None:
        reason = "the server closed it"
        try:
            reader = self._tcp._io_reader
            reader.feed_data = partial(self._take, reader.feed_data)
            while data := await reader.read(_READ_SIZE):
                self._gathering = len(data) == _READ_SIZE  # there may be more
                await self._process_words(self._parser.feed(data))
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
        except Exception as error:
            reason = _unreadable(error)
        self.drop(self._server_said or reason)

    def _take(self, gather: Callable[[bytes], None], data: bytes) -> None:
        if self._gathering or len(data) > _FEW:
            self._gathering = True
            gather(data)
            return
        try:
            words = self._parser.feed(data)
        except Exception as error:
            self.drop(self._server_said or _unreadable(error))
            return
        if words:
            task = self._loop.create_task(self._process_words(words))
            self._answering.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.drop(self._server_said or _unreadable(error))

    async def _process_words(self, words: list[tuple[bytes, bytes]]) -> None:
        for word, rest in words:
            await self._process_word(word, rest)

    async def _process_word(self, word: bytes, rest: bytes) -> None:
        if word == b"PING":
            await self._process_ping()
        elif word == b"PONG":
            await self._process_pong()
        elif word == b"INFO":
            await self._process_info(json.loads(rest))
        elif rest:
            await self._process_err(rest.decode(errors="backslashreplace").lower())
        else:
            raise ProtocolError("an error without a word")

    async def _process_err(self, err_msg: str) -> None:
        # The server closes the connection itself after an error that is fatal to it.
        said = err_msg.strip("'")
        if "permissions violation" in said:
            self.complain(said)
        else:
            self._server_said = f"the server said: {said}"

    async def _process_op_err(self, e: Exception) -> None:
        self.drop(str(e))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self.drop("closed")

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.write(cmd)

    async def _flush_pending(self, force_flush: bool = False) -> None:
        return

    async def _flusher(self) -> None:
        return

    async def publish(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise NotImplementedError: use `send` instead."""
        raise NotImplementedError("jetq writes through NatsClient.send")


def _nothing() -> None:
    """Do nothing, as long as nobody wants to know of a new limit."""


def _unreadable(error: BaseException) -> str:
    why = f": {error}" if isinstance(error, ProtocolError) else f" ({type(error).__name__})"
    return f"unreadable data from the server{why}"


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: the client's last reference went away after the loop
        return None

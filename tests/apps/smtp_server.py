"""An SMTP server on loopback that does what servers do: takes few connections, ends sessions, wants a login, breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum

__all__ = ["Odd", "Said", "Session", "Slow", "SmtpServer", "in_order", "serving_smtp"]


class Odd(Enum):
    """What a server does instead of answering. SILENT: nothing, and reads on. HALF_CLOSED: the usual, and then says
    that it will write no more."""

    SILENT = "silent"
    HALF_CLOSED = "half-closed"


class Slow(str):
    """A reply that comes byte by byte."""


Said = str | bytes | Odd | None
"""A reply; 421 and 221 close the connection. Bytes are sent as they are, and it is closed. None is the usual one."""

Reply = Callable[["Session"], Said]


class Session:
    """One connection: how many mails it has had, and who is named in the transaction under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.mails = 0
        self.recipients: list[str] = []
        self.has_said_all = False


class SmtpServer:
    """What it has taken, and what was said to it.

    replies: those to the steps "greet", "begin" (DATA) and "data" (the content), and to every other command by its name
    in small letters. most: connections it takes at once. extensions: what EHLO names.
    """

    def __init__(
        self, replies: dict[str, Reply] | None = None, *, most: int | None = None, extensions: tuple[str, ...] = ()
    ) -> None:
        self.most = most
        self.replies = replies or {}
        self.extensions = extensions
        self.taken: list[tuple[str, ...]] = []
        self.contents: list[bytes] = []
        self.commands: list[str] = []
        self.sessions = self.open = self.peak = self.turned_away = 0
        self.port = 0

    @property
    def delivered(self) -> list[str]:
        """Each recipient as often as a mail was taken for it, in order."""
        return sorted(recipient for recipients in self.taken for recipient in recipients)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.open += 1
        try:
            if self.most is not None and self.open > self.most:
                self.turned_away += 1
                writer.write(b"421 4.7.0 too many connections\r\n")
                return
            self.sessions += 1
            self.peak = max(self.peak, self.open)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(Session(reader, writer))
        finally:
            self.open -= 1
            writer.close()

    async def _serve(self, session: Session) -> None:
        greeting = self._reply("greet", session, "220 here")
        if not await self._say(session, greeting) or (isinstance(greeting, str) and not greeting.startswith("220")):
            return
        while line := await session.reader.readline():
            command = line.decode(errors="replace").strip()
            self.commands.append(command)
            if not await self._say(session, await self._answer(command, session)):
                return

    async def _say(self, session: Session, reply: Said) -> bool:
        """Whether the connection goes on."""
        writer = session.writer
        if session.has_said_all:
            return True
        if isinstance(reply, bytes):
            writer.write(reply)
            return False
        if isinstance(reply, Slow):
            for letter in f"{reply}\r\n":
                writer.write(letter.encode())
                await asyncio.sleep(0.02)
        elif isinstance(reply, str):
            writer.write(f"{reply}\r\n".encode(errors="surrogateescape"))
            await writer.drain()
        return not (isinstance(reply, str) and reply.startswith(("421", "221")))

    async def _answer(self, command: str, session: Session) -> Said:
        word = command.partition(" ")[0].lower()
        if word in ("ehlo", "mail", "rset"):
            session.recipients = []
        if word == "data":
            return await self._take(session)
        if word == "starttls":
            await self._say(session, self._reply(word, session, "220 go on"))
            await session.reader.read(1)
            return b"this is no TLS\r\n"
        lines = ["here", *self.extensions]
        named = "\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)
        reply = self._reply(word, session, {"ehlo": named, "auth": "235 in", "quit": "221 bye"}.get(word, "250 ok"))
        if word == "rcpt" and isinstance(reply, str) and reply.splitlines()[-1].startswith("25"):
            session.recipients.append(command.partition("<")[2].partition(">")[0])
        return reply

    async def _take(self, session: Session) -> Said:
        begun = self._reply("begin", session, "354 go on")
        if not (isinstance(begun, str) and begun.startswith("354")):
            return begun
        await self._say(session, begun)
        content = await session.reader.readuntil(b"\r\n.\r\n")
        reply = self._reply("data", session, "250 taken")
        if not (isinstance(reply, str) and reply[:1] in ("4", "5")):
            session.mails += 1
            self.taken.append(tuple(session.recipients))
            self.contents.append(content)
        session.recipients = []
        return reply

    def _reply(self, step: str, session: Session, usual: str) -> Said:
        made = self.replies[step](session) if step in self.replies else None
        if made is Odd.HALF_CLOSED:
            session.writer.write(f"{usual}\r\n".encode())
            session.writer.write_eof()
            session.has_said_all = True
        return usual if made is None else made


def in_order(*replies: Said) -> Reply:
    """`replies`, one after the other, and then the usual ones."""
    left = list(replies)
    return lambda session: left.pop(0) if left else None


@asynccontextmanager
async def serving_smtp(server: SmtpServer) -> AsyncIterator[SmtpServer]:
    """A context in which `server` answers on `server.port`."""
    listening = await asyncio.start_server(server.handle, "127.0.0.1", server.port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()

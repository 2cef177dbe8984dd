"""An SMTP server on loopback that does what servers do: takes few connections, ends sessions, wants a login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

__all__ = ["SmtpServer", "serving_smtp"]

Reply = Callable[["Session"], str | None]


class Session:
    """One connection: how many mails it has had, and who is named in the transaction under way."""

    def __init__(self) -> None:
        self.mails = 0
        self.recipients: list[str] = []


class SmtpServer:
    """What it has taken, and what was said to it.

    replies: those to the steps "greet", "mail", "rcpt" and "data", None for the usual one; 421 closes the connection.
    most: connections it takes at once. extensions: what EHLO names.
    """

    def __init__(
        self, replies: dict[str, Reply] | None = None, *, most: int | None = None, extensions: tuple[str, ...] = ()
    ) -> None:
        self.most = most
        self.replies = replies or {}
        self.extensions = extensions
        self.taken: list[tuple[str, ...]] = []
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
                await self._serve(reader, writer)
        finally:
            self.open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session()
        greeting = self._reply("greet", session, "220 here")
        writer.write(f"{greeting}\r\n".encode())
        while greeting.startswith("220") and (line := await reader.readline()):
            command = line.decode().strip()
            self.commands.append(command)
            reply = await self._answer(command, session, reader, writer)
            writer.write(f"{reply}\r\n".encode())
            if reply.startswith(("421", "221")):
                return

    async def _answer(self, command: str, session: Session, reader: Any, writer: Any) -> str:
        word = command[:4].upper()
        if word == "EHLO":
            lines = ["here", *self.extensions]
            return "\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)
        if word == "RCPT":
            reply = self._reply("rcpt", session, "250 ok")
            if reply.startswith("250"):
                session.recipients.append(command.partition("<")[2].partition(">")[0])
            return reply
        if word == "DATA":
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            return self._take(session)
        if word in ("MAIL", "RSET"):
            session.recipients = []
        return self._reply("mail", session, "250 ok") if word == "MAIL" else "221 bye" if word == "QUIT" else "250 ok"

    def _take(self, session: Session) -> str:
        reply = self._reply("data", session, "250 taken")
        if reply.startswith("250"):
            session.mails += 1
            self.taken.append(tuple(session.recipients))
        return reply

    def _reply(self, step: str, session: Session, usual: str) -> str:
        made = self.replies[step](session) if step in self.replies else None
        return usual if made is None else made


@asynccontextmanager
async def serving_smtp(server: SmtpServer) -> AsyncIterator[SmtpServer]:
    """A context in which `server` answers on `server.port`."""
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()

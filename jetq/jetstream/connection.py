"""The one connection the rest of `jetq.jetstream` uses: it outlives servers, networks and nats-py clients.

Below it, every client lives for one TCP connection. When that ends, for whatever reason, a new one is made with the
same checks as the first, the subscriptions are told to the server again, and what was held back is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import logging
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

from nats.aio.msg import Msg
from nats.nuid import NUID

from jetq.errors import BrokerUnavailable, JetqError
from jetq.jetstream.client import Client
from jetq.jetstream.connect import PING_INTERVAL, check_files, connect, server_version
from jetq.settings import Settings, safe_url

__all__ = ["Connection", "NoReply", "NoResponders", "Subscription"]

_log = logging.getLogger("jetq.connection")

_HELD_BYTES = 8 * 1024 * 1024
_SILENT_TICKS = 11
"""Seconds without a byte, after which the connection is dead: two pings were not answered."""

_FIRST_BACKOFF = 0.25
_LAST_BACKOFF = 5.0
_LAST_BACKOFF_AFTER_LOSS = 2.0
_REMIND = 30.0
_LAST_PING = 1.0
_LAST_STEP = 0.3
"""`close` takes one ping and up to three steps: within 2 s."""


class NoReply(Exception):
    """No reply came in time, or the connection was lost before: what was asked may or may not have been done."""


class NoResponders(Exception):
    """Nobody listens on the subject of the request: it was surely not done."""


class Subscription:
    """Interest in one subject. It stays through lost connections until `unsubscribe` or `drain`."""

    def __init__(
        self,
        connection: Connection,
        subject: str,
        callback: Callable[[Msg], Awaitable[None] | None],
        tell: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        """Made by `Connection.subscribe`. `tell` lets the server know of the end, `forget` ends the delivery."""
        self._connection = connection
        self._callback = callback
        self._tell = tell
        self._forget = forget
        self._queue: deque[Msg] = deque()
        self._running: asyncio.Task[None] | None = None
        self.subject = subject
        self.deliver: Callable[[Msg], None] = self._later if inspect.iscoroutinefunction(callback) else self._at_once

    async def unsubscribe(self) -> None:
        """End the interest; no callback starts after this. Never raises, whatever the connection's state."""
        self._tell()
        self._forget()
        self._queue.clear()

    async def drain(self, timeout: float = 1.0) -> None:
        """End the interest, but have the callback called for what the server sent before it knew, as far as that
        arrives within `timeout` seconds. Never raises."""
        self._tell()
        with contextlib.suppress(NoReply, JetqError):
            await self._connection.ping(timeout)
        self._forget()
        if self._running is not None and self._running is not asyncio.current_task():
            await asyncio.wait([self._running], timeout=timeout)

    def _at_once(self, msg: Msg) -> None:
        try:
            self._callback(msg)
        except Exception:
            _log.exception("the handler of %s failed", self.subject)

    def _later(self, msg: Msg) -> None:
        # A task only while there is something to do, so that none is left over when the loop ends.
        self._queue.append(msg)
        if self._running is None:
            self._running = self._connection.loop.create_task(self._run(), name=f"jetq-subscription {self.subject}")

    async def _run(self) -> None:
        try:
            while self._queue:
                awaitable = self._callback(self._queue.popleft())
                try:
                    if awaitable is not None:
                        await awaitable
                except Exception:
                    _log.exception("the handler of %s failed", self.subject)
        finally:
            self._running = None


class _Complaints:
    """Says why there is no connection: each cause at once, and the same cause again only every 30 s."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, error: JetqError, now: float) -> None:
        last = self._last.get(error.message)
        if last is None or now - last >= _REMIND:
            self._last[error.message] = now
            _log.warning("%s; trying again%s", error.message, f" (hint: {error.hint})" if error.hint else "")


class Connection:
    """One connection to the broker, on the loop it was opened on. Not thread-safe."""

    def __init__(self, settings: Settings, name: str) -> None:
        """Use `open`."""
        self.loop = asyncio.get_running_loop()
        self._settings = settings
        self._name = name
        self._pid = os.getpid()
        self._discovered: list[str] = []
        self._client: Client | None = None
        self._url = ""
        self._closed = False
        self._watch: asyncio.Task[None] | None = None
        self._up: list[Callable[[], None]] = []
        self._down: list[Callable[[], None]] = []
        self._subscriptions: dict[int, Subscription] = {}
        self._sid = 0
        self._held: list[tuple[str, bytes, str, dict[str, str] | None]] = []
        self._held_bytes = 0
        self._nuid = NUID()
        self._inbox = self.new_inbox() + "."
        self._replies: dict[str, asyncio.Future[Msg]] = {}
        self._request = 0
        self._max_payload = 0
        self._server_version = (0, 0, 0)
        self._trouble: JetqError | None = None

    @classmethod
    async def open(cls, settings: Settings, *, name: str, patient: bool = False) -> Connection:
        """Connect, and check that the server is one that jetq can use.

        A producer's attempt ends within `settings.connect_timeout`; with `patient` (a worker) it goes on for ever and
        logs why. Raises BrokerUnavailable, with one sentence and a hint, and SettingsError for a file of no use.
        """
        check_files(settings)
        connection = cls(settings, name)
        client = await (connection._connect_patiently(_LAST_BACKOFF) if patient else connection._connect())
        connection._use(client)
        await connection.subscribe(connection._inbox + "*", connection._on_reply)
        connection._watch = connection.loop.create_task(connection._run(client), name="jetq-connection")
        return connection

    # --- what it is

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and payload together that the server takes in one message."""
        return self._max_payload

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The version of the server connected to now or last."""
        return self._server_version

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._client is not None and self._client.is_connected

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def servers(self) -> list[str]:
        """The URLs a lost connection is looked for at: those configured, and what the server told of its cluster."""
        discovered = self._discovered if self._client is None else self._client.discovered_urls()
        return list(dict.fromkeys([*self._settings.servers, *discovered]))

    @property
    def trouble(self) -> JetqError | None:
        """Why there is no connection at the moment; None while there is one, or right after it was lost."""
        return self._trouble

    def on_up(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time a lost connection is back, subscriptions included."""
        self._up.append(callback)

    def on_down(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time the connection is lost."""
        self._down.append(callback)

    def off_up(self, callback: Callable[[], None]) -> None:
        """Forget an `on_up` callback, for what ends before the connection does."""
        with contextlib.suppress(ValueError):
            self._up.remove(callback)

    # --- messages

    def new_inbox(self) -> str:
        """A subject of this connection's own, for replies."""
        return f"{self._settings.inbox_prefix}.{self._nuid.next().decode()}"

    def send(self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """`publish` for small messages: returns at once, and does not slow down a sender that is too fast."""
        client = self._client
        if client is not None and client.is_connected:
            client.send(subject, payload, reply, headers)
        else:
            self._hold(subject, payload, reply, headers)

    async def publish(
        self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message without waiting for an answer, but for the network when it is behind.

        While the connection is lost the message is held back, up to 8 MiB in all, and sent once it is back; what was on
        its way when the connection broke may be gone. Subjects are not checked: whoever makes them has. Raises
        BrokerUnavailable when closed or when 8 MiB are held, ValueError for a header with a line break.
        """
        client = self._client
        if client is not None and client.is_connected:
            client.send(subject, payload, reply, headers)
            if client.congested:
                await client.drained()
        else:
            self._hold(subject, payload, reply, headers)

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: dict[str, str] | None = None, timeout: float
    ) -> Msg:
        """Send a message and return its reply. Raises NoReply after `timeout` seconds or when the connection is lost
        meanwhile, NoResponders at once when nobody listens, BrokerUnavailable as `publish` does."""
        self._request += 1
        token = str(self._request)
        reply: asyncio.Future[Msg] = self.loop.create_future()
        self._replies[token] = reply
        try:
            async with asyncio.timeout(timeout):
                await self.publish(subject, payload, self._inbox + token, headers)
                msg = await reply
        except TimeoutError:
            raise NoReply(f"no reply from {subject} within {timeout:g} s") from None
        finally:
            self._replies.pop(token, None)
            if reply.done() and not reply.cancelled():
                reply.exception()  # a request that was cancelled as it failed leaves no "never retrieved" behind
        if not msg.data and msg.headers is not None and msg.headers.get("Status") == "503":
            raise NoResponders(f"nobody listens on {subject}")
        return msg

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None] | None]) -> Subscription:
        """Call `callback` for each message on `subject`, one after the other, also after the connection was lost and
        is back. The interest reaches the server before anything published after this returns.

        A plain function is called as the message is read and must not block; a coroutine function runs in a task of
        the subscription's own. Raises BrokerUnavailable when closed.
        """
        if self._closed:
            raise self._is_closed()
        self._sid += 1
        sid = self._sid
        subscription = Subscription(self, subject, callback, partial(self._unlisten, sid), partial(self._forget, sid))
        self._subscriptions[sid] = subscription
        if self._client is not None:
            self._client.listen(sid, subject, subscription.deliver)
        return subscription

    async def ping(self, timeout: float) -> None:
        """Return once the server has read all that was published before. Raises NoReply after `timeout` seconds."""
        # An echo, not nats-py's flush: that puts its PING ahead of what is buffered, and if it times out, the late PONG
        # ends the read loop (2.16.0).
        self._request += 1
        token = str(self._request)
        echo: asyncio.Future[Msg] = self.loop.create_future()
        self._replies[token] = echo
        try:
            async with asyncio.timeout(timeout):
                await self.publish(self._inbox + token, b"")
                await echo
        except TimeoutError:
            raise NoReply(f"the server did not answer within {timeout:g} s") from None
        finally:
            self._replies.pop(token, None)

    async def close(self) -> None:
        """Send what is buffered, as far as that takes no longer than a moment, and disconnect, within 2 s.
        Never raises; may be called twice."""
        if self._closed:
            return
        if self.connected:
            # Closing a socket with unread data resets it, and what was sent last may be lost; this has it read first.
            with contextlib.suppress(NoReply, JetqError):
                await self.ping(_LAST_PING)
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch], timeout=_LAST_STEP)
        self._fail_replies("the connection was closed")
        if self._client is not None:
            await self._client.shutdown(_LAST_STEP)

    # --- keeping it up

    async def _run(self, client: Client) -> None:
        try:
            while True:
                reason = await self._until_lost(client)
                lost_at = self.loop.time()
                self._lost(reason)
                client = await self._connect_patiently(_LAST_BACKOFF_AFTER_LOSS)
                self._use(client)
                _log.info("connected to %s again after %.1f s", safe_url(self._url), self.loop.time() - lost_at)
                self._call(self._up)
        finally:
            # The loop is ending without `close`: no socket may outlive it. One that was closed cannot end anything, and
            # in a forked child the socket's place in the selector is the parent's.
            if not self._closed and not self.loop.is_closed() and os.getpid() == self._pid:
                client.drop("the event loop ended")

    async def _until_lost(self, client: Client) -> str:
        """Why `client` lost its connection. A dead one is dropped."""
        # Ticks are counted, not seconds: after the loop was blocked, what arrived meanwhile is read before the next.
        silent, seen = 0, (client.received, client.backlog())
        while True:
            await asyncio.wait([client.lost], timeout=1.0)
            if client.lost.done():
                return client.lost.result()
            now = (client.received, client.backlog())
            # A shrinking backlog is a sign of life too: on a thin line the answer to a ping waits behind it.
            silent = silent + 1 if now[0] == seen[0] and now[1] >= seen[1] else 0
            seen = now
            if silent >= _SILENT_TICKS:
                client.drop(f"nothing was heard of the server for {silent} s, though asked every {PING_INTERVAL:g} s")

    def _lost(self, reason: str) -> None:
        _log.warning("connection to %s lost: %s; connecting again", safe_url(self._url), reason)
        if self._client is not None:
            self._discovered = self._client.discovered_urls()
        self._client = None
        self._fail_replies(f"the connection was lost: {reason}")
        self._call(self._down)

    def _use(self, client: Client) -> None:
        self._client = client
        self._trouble = None
        self._max_payload = client.max_payload
        self._server_version = server_version(client)
        for sid, subscription in self._subscriptions.items():
            client.listen(sid, subscription.subject, subscription.deliver)
        held, self._held = self._held, []
        self._held_bytes = 0
        for message in held:
            client.send(*message)

    async def _connect_patiently(self, last_backoff: float) -> Client:
        backoff = _FIRST_BACKOFF
        complain = _Complaints()
        while True:
            try:
                return await self._connect()
            except JetqError as error:
                self._trouble = error
                complain(error, self.loop.time())
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, last_backoff)

    async def _connect(self) -> Client:
        """One round over the servers, in random order, within `connect_timeout`."""
        first_time = not self._url
        deadline = self.loop.time() + self._settings.connect_timeout
        servers = self.servers
        random.shuffle(servers)
        errors: list[BrokerUnavailable] = []
        while servers:
            url = servers.pop()
            within = (deadline - self.loop.time()) / (len(servers) + 1)
            try:
                client = await connect(
                    self._settings,
                    url,
                    name=self._name,
                    within=max(within, 0.05),
                    complain=_complain,
                    tls_hostname=self._certified_name(url),
                    await_jetstream=first_time,
                )
            except BrokerUnavailable as error:
                errors.append(error)
            else:
                self._url = url
                return client
        raise _all_failed(errors)

    def _certified_name(self, url: str) -> str | None:
        # Servers of a cluster advertise addresses, and their certificates bear the name that was configured.
        host = urlsplit(url).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        return None if url in self._settings.servers else urlsplit(self._settings.servers[0]).hostname

    # --- small steps

    def _hold(self, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None) -> None:
        if self._closed:
            raise self._is_closed()
        size = len(payload) + len(subject) + len(reply) + 64
        if self._held_bytes + size > _HELD_BYTES:
            trouble = self._trouble
            raise BrokerUnavailable(
                trouble.message if trouble else f"the connection to {safe_url(self._url)} is lost",
                hint=f"{_HELD_BYTES // 1024 // 1024} MiB wait to be sent; no more is taken until it is back",
            )
        self._held.append((subject, payload, reply, headers))
        self._held_bytes += size

    def _is_closed(self) -> BrokerUnavailable:
        return BrokerUnavailable("the connection to NATS was closed", hint="open a new one")

    def _unlisten(self, sid: int) -> None:
        if self._subscriptions.pop(sid, None) is not None and self._client is not None:
            self._client.unlisten(sid)

    def _forget(self, sid: int) -> None:
        if self._client is not None:
            self._client.forget(sid)

    def _on_reply(self, msg: Msg) -> None:
        reply = self._replies.get(msg.subject[len(self._inbox) :])
        if reply is not None and not reply.done():
            reply.set_result(msg)

    def _fail_replies(self, reason: str) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(NoReply(reason))

    def _call(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in list(callbacks):
            try:
                callback()
            except Exception:
                _log.exception("a callback of the connection failed")


def _complain(said: str) -> None:
    _log.warning("the NATS server said: %s", said)


def _all_failed(errors: list[BrokerUnavailable]) -> BrokerUnavailable:
    if len(errors) == 1:
        return errors[0]
    # In a stable order, so that a worker's log recognises the same trouble.
    messages = sorted({error.message.removeprefix("cannot connect to NATS at ") for error in errors})
    return BrokerUnavailable(
        f"cannot connect to any NATS server: {'; '.join(messages)}", hint=min(errors, key=str).hint
    )

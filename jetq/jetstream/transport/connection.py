"""The one connection that the rest of `jetq.jetstream` uses: it outlives servers, networks and nats-py clients.

Each client lives for one TCP connection. When that connection ends, for whatever reason, a new client is made with the
same checks as the first, the subscriptions are told to the server again, and what was held back is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from nats.nuid import NUID

from jetq.errors import BrokerUnavailable, JetqError
from jetq.jetstream.transport.connection_log import Complaints, all_failed, denied_subject
from jetq.jetstream.transport.handshake import PING_INTERVAL, certified_name, check_files, connect, server_version
from jetq.jetstream.transport.held import Comeback, Held
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import NatsClient, header_block
from jetq.jetstream.transport.replies import NoReply, NoResponders, NotAllowed, Replies, Unsent
from jetq.jetstream.transport.subscription import Subscription
from jetq.runtime.backoff import backoff
from jetq.settings import Settings, safe_url

__all__ = ["Connection", "NoReply", "NoResponders", "NotAllowed", "Subscription", "Unsent"]

_log = logging.getLogger("jetq.connection")

_SILENT_TICKS = 11
"""Seconds without a byte after which the connection is dead: two pings were not answered."""

_STEADY = 10.0
"""Seconds for which a connection must have lasted if the next is to be made at once. A connection that is lost sooner
may be lost because of what is done over it, again and again."""

_FIRST_BACKOFF = 0.25
_LAST_BACKOFF = 5.0
_LAST_BACKOFF_AFTER_LOSS = 2.0
_LAST_PING = 1.0
_LAST_STEP = 0.3
"""Seconds. `close` takes one ping and up to three steps: within 2 s."""


class Connection:
    """One connection to the broker, on the loop it was opened on. Not thread-safe.

    `lost_by_size`: the connection was last lost by a message too large for the server, which did not store the message.

    Guarantee: tests/faults/test_server_restart.py: work goes on within seconds of the broker's return;
    tests/integration/connection/test_lying_server.py: and a broker that talks nonsense is left as one that is gone.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        """Do not call this; use `open`."""
        self.loop = asyncio.get_running_loop()
        self._settings = settings
        self.name = name
        self._pid = os.getpid()
        self._discovered: list[str] = []
        self._client: NatsClient | None = None
        self._url = ""
        self._closed = False
        self._watch: asyncio.Task[None] | None = None
        self._up: list[Callable[[], None]] = []
        self._down: list[Callable[[], None]] = []
        self._subscriptions: dict[int, Subscription] = {}
        self._sid = 0
        self._held = Held()
        self._comeback = Comeback()
        self._lost_because, self._up_since = "", 0.0
        self._nuid = NUID()
        self._replies = Replies(self.new_inbox())
        self._denied: list[Callable[[str], None]] = []
        self._max_payload = 0
        self.lost_by_size = False
        self._server_version = (0, 0, 0)
        self.domain: str | None = None
        """The JetStream domain that is used, "" for one without a name; None as long as the domain is not known."""
        self._problem: JetqError | None = None

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
        await connection.subscribe(connection._replies.subjects, connection._replies.hear)
        connection._watch = connection.loop.create_task(connection._run(client), name="jetq-connection")
        return connection

    # --- the state of the connection

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and payload together that the server takes and stores in one message."""
        return self._max_payload

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The version of the server connected to now or last."""
        return self._server_version

    @property
    def client(self) -> NatsClient | None:
        """The client of the present TCP connection, to look at; None while there is no connection."""
        return self._client

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None and self._client.is_connected

    @property
    def up_for(self) -> float:
        """Seconds since the present connection was made; 0 while there is none."""
        return self.loop.time() - self._up_since if self.connected else 0.0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def servers(self) -> list[str]:
        """The URLs tried for a lost connection: those configured, and those that the server told of its cluster."""
        if self._settings.ignore_discovered_servers:
            return list(dict.fromkeys(self._settings.servers))
        discovered = self._discovered if self._client is None else self._client.discovered_urls()
        return list(dict.fromkeys([*self._settings.servers, *discovered]))

    @property
    def problem(self) -> JetqError | None:
        """Why there is no connection at the moment; None while there is one, or right after it was lost."""
        return self._problem

    def why_down(self) -> BrokerUnavailable:
        """Return the error for a caller who needs the connection while there is none. Its reason is that of the log."""
        if self._closed:
            return self._is_closed()
        if self._problem is not None:
            return BrokerUnavailable(self._problem.message, hint=self._problem.hint)
        return BrokerUnavailable(f"the connection to {safe_url(self._url)} is lost: {self._lost_because}")

    def on_up(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time a lost connection is back, with its subscriptions."""
        self._up.append(callback)

    def on_down(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time the connection is lost."""
        self._down.append(callback)

    def on_denied(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the subject, in lower case, of each publish that the user has no permission for."""
        self._denied.append(callback)

    def off_up(self, callback: Callable[[], None]) -> None:
        """Forget an `on_up` callback, whose owner ends before the connection does."""
        with contextlib.suppress(ValueError):
            self._up.remove(callback)

    async def another(self, name: str) -> NatsClient:
        """Return a client with a TCP connection of its own to the same server. Raises BrokerUnavailable."""
        return await connect(
            self._settings,
            self._url,
            name=name,
            within=self._settings.connect_timeout,
            complain=lambda _: None,
            tls_hostname=certified_name(self._settings, self._url),
            await_jetstream=False,
        )

    # --- messages

    def new_inbox(self) -> str:
        """Return a new subject that only this connection uses, for replies."""
        return f"{self._settings.inbox_prefix}.{self._nuid.next().decode()}"

    def send(self, subject: str, payload: bytes, reply: str = "", block: bytes = b"") -> None:
        """Send a message as `publish` does, and return at once. A sender who may be too fast looks at `congested`."""
        if not self.offer(subject, payload, reply, block):
            self._hold(subject, payload, reply, block)

    def offer(self, subject: str, payload: bytes, reply: str, block: bytes) -> bool:
        """Send a message as `send` does, but never hold it back, because its sender may be told that the message
        failed. Return False, and never send it, while there is no connection. Raises BrokerUnavailable when closed."""
        client = self._client
        if client is not None and client.is_connected:
            client.send(subject, payload, reply, block)
            return True
        if self._closed:
            raise self._is_closed()
        return False

    def send_each(self, subjects: Iterable[str], payload: bytes) -> None:
        """Send the same small message to each of `subjects`, as `send` does."""
        client = self._client
        if client is not None and client.is_connected:
            client.send_each(subjects, payload)
        else:
            for subject in subjects:
                self._hold(subject, payload, "", b"")

    @property
    def congested(self) -> bool:
        """Whether a sender of much should await `drained` before sending more."""
        client = self._client
        return client is not None and client.congested

    @property
    def free(self) -> bool:
        """Whether a message that is sent now goes out at once."""
        client = self._client
        return client is not None and client.is_connected and not client.congested

    async def drained(self) -> None:
        """Wait until the network has taken most of what was sent, or the connection is lost."""
        if self._client is not None:
            await self._client.drained()

    async def publish(self, subject: str, payload: bytes, reply: str = "", block: bytes = b"") -> None:
        """Send a message without waiting for an answer, but wait for the network when the network is behind.

        While the connection is lost the message is held back, up to 8 MiB in all, and sent later; a message on its way
        when the connection broke may be gone. Subjects are not checked here, but where they are made. `block` has the
        headers, as `header_block` makes it. Raises BrokerUnavailable when closed or when 8 MiB are held.
        """
        self.send(subject, payload, reply, block)
        if self.congested:
            await self.drained()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout: float,
        again: float | None = None,
    ) -> Message:
        """Send a message and return its reply.

        With `again` the message is sent anew after every `again` seconds without a reply, because the receiver may not
        have been there yet; not while a long answer comes in. While the connection is lost, the call waits and holds
        nothing back. Raises Unsent if the connection does not return within `timeout` seconds, NoReply if the reply
        does not come in time or the connection is lost meanwhile, at once NoResponders when nobody listens and
        NotAllowed without the permission, BrokerUnavailable when closed, ValueError for a header with a line break.
        """
        block = header_block(headers)
        sent = False
        inbox, reply = self._replies.expect(subject)
        try:
            async with asyncio.timeout(timeout):
                while not reply.done():
                    if not self.offer(subject, payload, inbox, block):
                        await self._comeback.wait()
                        continue
                    sent = True
                    if self.congested:
                        await self.drained()
                    await asyncio.wait([reply], timeout=again)
                    while not reply.done() and self._client is not None and self._client.receiving:
                        await asyncio.wait([reply], timeout=again)
                msg = reply.result()
        except TimeoutError:
            if not sent:
                raise Unsent(self.why_down().message) from None
            raise NoReply(f"no reply from {subject} within {timeout:g} s") from None
        finally:
            self._replies.forget(inbox)
        if not msg.data and msg.headers.get("Status") == "503":
            raise NoResponders(f"nobody listens on {subject}")
        return msg

    async def subscribe(self, subject: str, callback: Callable[[Message], Awaitable[None] | None]) -> Subscription:
        """Call `callback` for each message on `subject`, one after the other, also after a lost connection is back.

        The interest reaches the server before anything published after this returns. A plain function is called as a
        message is read and must not block; a coroutine function has a task of its own. Raises BrokerUnavailable when
        closed.
        """
        if self._closed:
            raise self._is_closed()
        self._sid += 1
        sid = self._sid
        subscription = Subscription(
            subject,
            callback,
            unlisten=partial(self._unlisten, sid),
            catch_up=self._catch_up,
            forget=partial(self._forget, sid),
        )
        self._subscriptions[sid] = subscription
        if self._client is not None:
            self._client.listen(sid, subject, subscription.deliver)
        return subscription

    async def ping(self, timeout: float) -> None:
        """Wait until the server has read all that was published before. Raises NoReply after `timeout` seconds."""
        # An echo, not nats-py's flush: the flush puts its PING ahead of what is buffered, and if it times out, the late
        # PONG ends the read loop (2.16.0).
        inbox, echo = self._replies.expect()
        try:
            async with asyncio.timeout(timeout):
                await self.publish(inbox, b"")
                await echo
        except TimeoutError:
            raise NoReply(f"the server did not answer within {timeout:g} s") from None
        finally:
            self._replies.forget(inbox)

    async def close(self) -> None:
        """Send what is buffered, at most for a moment, and disconnect, within 2 s. Never raises; may be repeated."""
        if self._closed:
            return
        if self.connected:
            # Closing a socket with unread data resets it, and what was sent last may be lost; a ping has it read first.
            with contextlib.suppress(NoReply, JetqError):
                await self.ping(_LAST_PING)
        self._closed = True
        for _ in range(3):  # see `_connect_patiently`
            if self._watch is not None and not self._watch.done():
                self._watch.cancel()
                await asyncio.wait([self._watch], timeout=_LAST_STEP / 3)
        self._replies.fail("the connection was closed")
        self._comeback.notify()
        if self._client is not None:
            await self._client.shutdown(_LAST_STEP)

    # --- keeping the connection up

    async def _run(self, client: NatsClient) -> None:
        pause = 0.0
        try:
            while True:
                begun = self.loop.time()
                reason = await self._until_lost(client)
                lost_at = self.loop.time()
                pause = 0.0 if lost_at - begun >= _STEADY else min(max(2 * pause, _FIRST_BACKOFF), _LAST_BACKOFF)
                self._lost(reason, pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                client = await self._connect_patiently(_LAST_BACKOFF_AFTER_LOSS)
                if self._closed:
                    return client.drop("closed")
                self._use(client)
                _log.info("connected to %s again after %.1f s", safe_url(self._url), self.loop.time() - lost_at)
                self._call(self._up)
        finally:
            # The loop is ending without `close`: no socket may outlive the loop. A loop that was closed cannot end
            # anything. In a forked child the socket's place in the selector is the parent's.
            if not self._closed and not self.loop.is_closed() and os.getpid() == self._pid:
                client.drop("the event loop ended")

    async def _until_lost(self, client: NatsClient) -> str:
        """Wait until `client` has lost its connection, and return why. A dead connection is dropped."""
        # Ticks are counted, not seconds: after the loop was blocked, what came meanwhile is read before the next tick.
        silent, seen = 0, (client.heard(), client.backlog())
        while True:
            await asyncio.wait([client.lost], timeout=1.0)
            if client.lost.done():
                return client.lost.result()
            now = (client.heard(), client.backlog())
            # A shrinking backlog is a sign of life too: on a slow line the answer to a ping waits behind it.
            silent = silent + 1 if now[0] == seen[0] and now[1] >= seen[1] else 0
            seen = now
            if silent >= _SILENT_TICKS:
                client.drop(f"nothing was heard of the server for {silent} s, though asked every {PING_INTERVAL:g} s")

    def _lost(self, reason: str, pause: float) -> None:
        when = f" in {pause:g} s" if pause else ""
        _log.warning("connection to %s lost: %s; connecting again%s", safe_url(self._url), reason, when)
        self.lost_by_size = "maximum payload" in reason
        if self._client is not None:
            self._discovered = self._client.discovered_urls()
        self._client = None
        self._lost_because = reason
        self._replies.fail(f"the connection was lost: {reason}")
        self._call(self._down)

    def _use(self, client: NatsClient) -> None:
        self._client = client
        self._up_since = self.loop.time()
        self._problem = None
        client.limited = partial(self.limit, client)
        self.limit(client)
        self._server_version = server_version(client)
        self.domain = self.domain if client.domain is None else client.domain
        for sid, subscription in self._subscriptions.items():
            client.listen(sid, subscription.subject, subscription.deliver)
        for message in self._held.take():
            if len(message[1]) + len(message[3]) <= self._max_payload:  # a larger one would cost this connection too
                client.send(*message)
        self._comeback.notify()

    def limit(self, client: NatsClient) -> None:
        """Let messages from now on be as large as the server of `client` said."""
        self._max_payload = client.most_stored

    async def _connect_patiently(self, last_backoff: float) -> NatsClient:
        # A cancellation that comes at the end of an attempt is lost: `asyncio.wait_for` of Python 3.11 then returns or
        # raises what the attempt does. A caller that cancels only once, as a loop that ends does, would wait for ever.
        task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        pauses = backoff(_FIRST_BACKOFF, last_backoff)
        complain = Complaints()
        while not self._closed:
            try:
                client = await self._connect()
            except JetqError as error:
                self._problem = error
                complain(error, self.loop.time())
            else:
                if task.cancelling() == cancellations:
                    return client
                client.drop("cancelled")
            if task.cancelling() > cancellations:
                break
            await asyncio.sleep(next(pauses) * random.uniform(0.5, 1.0))
        raise asyncio.CancelledError

    async def _connect(self) -> NatsClient:
        """Try each server once, in random order, within `connect_timeout`. Raises BrokerUnavailable if all fail."""
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
                    name=self.name,
                    within=max(within, 0.05),
                    complain=self._hear,
                    tls_hostname=certified_name(self._settings, url),
                    await_jetstream=first_time,
                    domain=self.domain,
                )
            except BrokerUnavailable as error:
                errors.append(error)
            else:
                self._url = url
                return client
        raise all_failed(errors)

    # --- small steps

    def _hold(self, subject: str, payload: bytes, reply: str, block: bytes) -> None:
        if self._closed:
            raise self._is_closed()
        if not self._held.add(subject, payload, reply, block):
            raise BrokerUnavailable(
                self.why_down().message, hint="8 MiB wait to be sent; no more is taken until it is back"
            )

    def _is_closed(self) -> BrokerUnavailable:
        return BrokerUnavailable("the connection to NATS was closed", hint="open a new one")

    def _unlisten(self, sid: int) -> None:
        if self._subscriptions.pop(sid, None) is not None and self._client is not None:
            self._client.unlisten(sid)

    async def _catch_up(self, timeout: float) -> None:
        if self.connected:
            with contextlib.suppress(NoReply, JetqError):
                await self.ping(timeout)

    def _forget(self, sid: int) -> None:
        if self._client is not None:
            self._client.forget(sid)

    def _hear(self, said: str) -> None:
        _log.warning("the NATS server said: %s", said)
        denied = denied_subject(said)
        if denied is None:
            return
        self._replies.deny(denied)
        for callback in self._denied:
            callback(denied)

    def _call(self, callbacks: list[Callable[[], None]]) -> None:
        for callback in list(callbacks):
            try:
                callback()
            except Exception:
                _log.exception("a callback of the connection failed")

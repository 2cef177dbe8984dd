"""The one connection the rest of `jetq.jetstream` uses: it outlives servers, networks and nats-py clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from jetq.errors import BrokerUnavailable
from jetq.settings import Settings

__all__ = ["Connection", "NoReply", "NoResponders", "Subscription"]

logger = logging.getLogger(__name__)


class NoReply(Exception):
    """No reply came in time, or the connection was lost before it came: what was asked may or may not have been done."""


class NoResponders(Exception):
    """Nobody listens on the subject of the request: it was surely not done."""


class Subscription:
    """Interest in one subject. It stays through lost connections until `unsubscribe`."""

    def __init__(self, subscription: NatsSubscription) -> None:
        self._subscription = subscription

    async def unsubscribe(self) -> None:
        """End the interest; no callback starts after this. Never raises, whatever the connection's state."""
        try:
            await self._subscription.unsubscribe()
        except nats.errors.Error:
            pass


class Connection:
    """One connection to the broker, on the loop it was opened on. Not thread-safe."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, settings: Settings, *, name: str, patient: bool = False) -> Connection:
        """Connect, and check that the server is one that jetq can use.

        A producer's attempt ends within `settings.connect_timeout`; with `patient` (a worker) it goes on for ever and
        logs why. Raises BrokerUnavailable, with one sentence and a hint.
        """
        client = Client()
        try:
            await client.connect(list(settings.servers), name=name, allow_reconnect=True, max_reconnect_attempts=-1)
        except (OSError, nats.errors.Error) as error:
            raise BrokerUnavailable(f"cannot connect to NATS: {error}") from error
        return cls(client)

    @property
    def max_payload(self) -> int:
        """The most bytes of headers and payload together that the server takes in one message."""
        return self._client.max_payload

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The version of the server connected to now or last."""
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._client.is_connected

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._client.is_closed

    def new_inbox(self) -> str:
        """A subject of this connection's own, for replies."""
        return self._client.new_inbox()

    async def publish(
        self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message without waiting for anything. While the connection is lost it is held back, up to 8 MiB,
        and sent once it is back; what was on its way when the connection broke may be gone.

        Subjects are not checked: whoever makes them has. Raises BrokerUnavailable when closed or 8 MiB are held.
        """
        try:
            await self._client.publish(subject, payload, reply, headers)
        except nats.errors.Error as error:
            raise BrokerUnavailable(f"cannot send to NATS: {error}") from error

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: dict[str, str] | None = None, timeout: float
    ) -> Msg:
        """Send a message and return its reply. Raises NoReply after `timeout` seconds or when the connection is lost
        meanwhile, NoResponders at once when nobody listens, BrokerUnavailable as `publish` does."""
        try:
            return await self._client.request(subject, payload, timeout=timeout, headers=headers)
        except nats.errors.TimeoutError as error:
            raise NoReply(subject) from error
        except nats.errors.NoRespondersError as error:
            raise NoResponders(subject) from error

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Call `callback` for each message on `subject`, one after the other, also after the connection was lost and
        is back. The interest reaches the server before anything published after this returns."""
        return Subscription(await self._client.subscribe(subject, cb=callback))

    def on_up(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time a lost connection is back, subscriptions included."""

    def on_down(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop each time the connection is lost."""

    async def ping(self, timeout: float) -> None:
        """Return once the server has read all that was published before. Raises NoReply after `timeout` seconds."""

    async def close(self) -> None:
        """Send what is buffered, as far as that takes no longer than a moment, and disconnect, within 2 s.
        Never raises; may be called twice."""
        await self._client.close()

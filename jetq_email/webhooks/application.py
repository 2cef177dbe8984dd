"""The ASGI application that takes webhooks: it verifies, reads, stores a job and answers. A worker does the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from jetq import Call, Jetq, JetqError
from jetq_email.feedback.events import Event
from jetq_email.settings import current
from jetq_email.tasks import confirm_subscription, take_events
from jetq_email.webhooks.brevo import Brevo
from jetq_email.webhooks.mailgun import Mailgun
from jetq_email.webhooks.postmark import Postmark
from jetq_email.webhooks.request import Hook, Junk, Request, Unverifiable
from jetq_email.webhooks.resend import Resend
from jetq_email.webhooks.sendgrid import SendGrid
from jetq_email.webhooks.ses import Ses

__all__ = ["Webhooks"]

_log = logging.getLogger("jetq.email")

_LONGEST_BODY = 1024 * 1024
_EVENTS_A_JOB = 500
"""Events in one job. So many of the largest events still fit into a message of the broker, which has 1 MiB by
default."""

_AGAIN = 60
"""Seconds after which a provider is asked to come again. Most providers use their own times."""

_HOOKS = (Postmark, SendGrid, Mailgun, Resend, Brevo, Ses)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Answer(Exception):
    """How a request is answered. reason: for the log; the client gets only the status."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class Webhooks:
    """Takes what providers report about mails, by `POST` to a path that ends in `/postmark`, `/sendgrid`, `/mailgun`,
    `/resend`, `/brevo` or `/ses`. This is an ASGI application, to be mounted in another one under any path, or served
    alone.

    A provider is served if the settings hold the secret that verifies its requests; other paths are answered with 404.
    The settings are read once, here. app: the app that stores the jobs, if not the default app. Raises SettingsError.
    """

    def __init__(self, app: Jetq | None = None) -> None:
        secrets = current().webhooks
        hooks: list[Hook | None] = [kind.of(secrets) for kind in _HOOKS]
        self._hooks: dict[str, Hook] = {hook.name: hook for hook in hooks if hook is not None}
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or the lifespan, as ASGI specifies."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = str(scope["path"]).rstrip("/").rpartition("/")[2]
        status, headers = 200, dict[str, str]()
        try:
            await self._take(name, scope, receive)
        except _Answer as answer:
            status, headers = answer.status, dict(answer.headers)
            if status != 404:  # anybody may ask for any path
                level = logging.WARNING if status in (401, 503) else logging.INFO
                _log.log(level, "a webhook of %s was answered %d: %s", name, status, answer.reason)
        headers["content-length"] = "0"
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b""})

    async def _take(self, name: str, scope: Scope, receive: Receive) -> None:
        """Verify and read one request, and store its jobs. Raises _Answer for any answer but 200."""
        hook = self._hooks.get(name)
        if hook is None:
            raise _Answer(404, "no such provider is set up")
        if scope["method"] != "POST":
            raise _Answer(405, "its method is not POST", {"allow": "POST"})
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        request = Request(headers, await _body(headers, receive), time.time())
        try:
            if not await hook.verify(request):
                challenge = {"www-authenticate": hook.challenge} if hook.challenge else {}
                raise _Answer(401, "it is not the provider's, or not signed with the key in the settings", challenge)
            calls = _calls(name, hook, request.body)
            await self._store(calls)
        except Junk as error:
            raise _Answer(400, error.message) from error
        except Unverifiable as error:
            raise _Answer(503, error.message, {"retry-after": str(_AGAIN)}) from error
        except JetqError as error:
            reason = f"it cannot be stored: {type(error).__name__}"
            raise _Answer(503, reason, {"retry-after": str(_AGAIN)}) from error

    async def _store(self, calls: Sequence[Call[None]]) -> None:
        if not calls:
            return
        if self._app is None:
            await take_events.adelay_many(calls)
        else:
            await self._app.adelay_many(calls)


def _calls(name: str, hook: Hook, body: bytes) -> list[Call[None]]:
    """Return the jobs that a request is stored as.

    A repeated request gives the same job ids, also if it was signed anew.
    """
    url = hook.confirms(body)
    if url is not None:
        return [confirm_subscription.options(id=_id(name, url.encode())).bind(url)]
    events = hook.events(body)
    parts = [events[start : start + _EVENTS_A_JOB] for start in range(0, len(events), _EVENTS_A_JOB)]
    return [take_events.options(id=_id(name, _encode(part))).bind(part) for part in parts]


def _encode(events: list[Event]) -> bytes:
    return msgspec.json.encode(events)


def _id(name: str, content: bytes) -> str:
    return f"email-{name}-{blake2b(content, digest_size=16).hexdigest()}"


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Return the body of a request. Raises _Answer if it is too long, or if its client has gone."""
    length = headers.get("content-length", "").lstrip("0")
    too_long = len(length) > len(str(_LONGEST_BODY)) or (length.isdecimal() and int(length) > _LONGEST_BODY)
    body, more = bytearray(), True
    while more and not too_long:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Answer(400, "its client went away")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        too_long = len(body) > _LONGEST_BODY
    if too_long:
        raise _Answer(413, "its body has more than 1 MiB")
    return bytes(body)


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's lifespan messages. There is nothing to start or to stop."""
    while True:
        asked = (await receive())["type"]
        await send({"type": f"{asked}.complete"})
        if asked == "lifespan.shutdown":
            return

"""The page that the links in mails open, to leave a topic. It also takes the one click of a mail program (RFC 8058).

The page is an ASGI application that only stores a job in the broker. A worker notes the recipient's choice. Of several
choices the latest holds.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from jetq import BrokerError, Jetq, JetqError, Reject, SettingsError, current_job, task
from jetq_email.errors import Unsendable
from jetq_email.settings import current
from jetq_email.suppression import Suppression, check_topic
from jetq_email.templates import page
from jetq_email.unsubscribe.links import Subscription, is_hash, read_token

__all__ = ["Unsubscribe", "note_choice"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("jetq.email")

_LARGEST_BODY = 65536
_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",  # the page's URL is as good as a key
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; img-src https: data:; style-src 'unsafe-inline' https:; "
    "font-src https: data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


@task(name="jetq_email.unsubscribe", queue="email", max_attempts=8)
async def note_choice(topic: str, hash: str, wanted: bool = False) -> None:
    """Note whether the recipient with the address hash `hash` wants mail of `topic`. If there are several such jobs for
    one topic and recipient, the job that was stored last decides, whichever runs first."""
    try:
        check_topic(topic)
    except Unsendable as error:
        raise Reject(str(error)) from None
    if not is_hash(hash):
        raise Reject("hash: not that of an address")
    try:
        at = current_job().enqueued_at
    except JetqError:  # a plain call of the task
        at = None
    await Suppression().decide(hash, topic, wanted=wanted, source="link", at=at)


class Unsubscribe:
    """An ASGI application for the path of `JETQ_EMAIL_UNSUBSCRIBE_URL`, followed by a token.

    GET asks and changes nothing, because scanners open links. POST unsubscribes, or subscribes again if it has a field
    `resubscribe`. The status is 404 for a link that is not genuine, and 503 if the broker takes no job.

    app: the app that stores the jobs, if not the default app. Raises SettingsError without JETQ_EMAIL_SECRET.
    """

    def __init__(self, app: Jetq | None = None) -> None:
        settings = current()
        if not settings.secret:
            raise SettingsError(
                "links to unsubscribe cannot be read without the secret that signs them",
                hint="set JETQ_EMAIL_SECRET to that of the workers",
            )
        self._app = app
        self._secrets = settings.secret
        self._templates = settings.template_directory

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"an application for HTTP, not for {scope['type']}")
        method = scope["method"]
        if method not in ("GET", "HEAD", "POST"):
            await _answer(send, method, 405, "", {"allow": "GET, HEAD, POST"})
            return
        subscription = read_token(scope["path"].rpartition("/")[2], self._secrets)
        if subscription is None:
            await _answer(send, method, 404, self._page("unknown"))
        elif method == "POST":
            await self._take(subscription, receive, send)
        else:
            await _answer(send, method, 200, self._page("ask", topic=subscription.topic))

    async def _take(self, subscription: Subscription, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            await _answer(send, "POST", 413, "")
            return
        wanted = _wants_back(body)
        try:
            await self._store(subscription, wanted)
        except BrokerError as error:
            _log.warning("a wish to unsubscribe was not stored, and is answered with 503: %s", error)
            await _answer(send, "POST", 503, self._page("failed", wanted=wanted), {"retry-after": "60"})
            return
        await _answer(send, "POST", 200, self._page("back" if wanted else "left", topic=subscription.topic))

    async def _store(self, subscription: Subscription, wanted: bool) -> None:
        if self._app is None:
            await note_choice.adelay(subscription.topic, subscription.hash, wanted)
        else:
            await self._app.aenqueue(note_choice.bind(subscription.topic, subscription.hash, wanted))

    def _page(self, state: str, **known: Any) -> str:
        """Return the page `unsubscribe.html`, from the template directory if it has one. If that template fails, return
        the built-in page, because it matters more that the recipient gets an answer than what it looks like."""
        context = {"state": state, "topic": "", "wanted": False, **known}
        try:
            return page("unsubscribe", context, self._templates)
        except Unsendable as error:
            _log.warning("the page to unsubscribe is jetq's own: %s", error)
            return page("unsubscribe", context)


def _wants_back(body: bytes) -> bool:
    """Return whether the form comes from the page's button to subscribe again. Every other form unsubscribes, in either
    of the two ways in which a mail program may write it (RFC 8058 3.2)."""
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return "resubscribe" in fields and "List-Unsubscribe" not in fields


async def _body(receive: Receive) -> bytes | None:
    """Return the posted body; None if it is too long, or if its sender has gone."""
    body = b""
    while len(body) <= _LARGEST_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
    return None


async def _answer(
    send: Send, method: str, status: int, text: str, more: MutableMapping[str, str] | None = None
) -> None:
    content = text.encode()
    headers = {**_HEADERS, "content-length": str(len(content)), **(more or {})}
    written = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": written})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else content})

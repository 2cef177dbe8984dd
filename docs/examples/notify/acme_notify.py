"""Notifications beyond mail, as a plugin of your own: who is told of what, by mail or by a webhook, as each prefers.

    notify.delay(User(id="7", email="ann@example.com"), Event(kind="invoice", title="Your invoice", text="..."))

`ACME_NOTIFY_SECRET` signs webhooks, `ACME_NOTIFY_HOSTS` names the hosts they may go to, separated by commas.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from base64 import b64encode
from typing import Literal
from urllib.parse import urlsplit

import httpx2
import msgspec
from msgspec import Struct
from tenacity import wait_exponential

from jetq import Records, Reject, Retry, SettingsError, current_job, task
from jetq_email import send_email

__all__ = ["Channel", "Event", "User", "jetq_ready", "notify", "post", "prefer", "preferred"]

Channel = Literal["mail", "webhook", "none"]

_CHANNEL = msgspec.json.Decoder(Channel)
_LASTING_4XX = frozenset(range(400, 500)) - {408, 425, 429}
"""Answers that stay the same however often they are asked for: all but too late, too early and too many."""

_LONGEST_WAIT = 3600.0
transport: httpx2.AsyncBaseTransport | None = None
"""What webhooks go through, if not the network; for tests."""


class User(Struct, frozen=True):
    """Whom to tell. id: letters, digits, '_' and '-'."""

    id: str
    email: str | None = None
    webhook: str | None = None


class Event(Struct, frozen=True):
    """What has happened. kind: what users have a preference about, one word."""

    kind: str
    title: str
    text: str


def jetq_ready() -> None:
    """A worker without a secret leaves the queue to others."""
    if not os.environ.get("ACME_NOTIFY_SECRET"):
        raise SettingsError("webhooks cannot be signed", hint="set ACME_NOTIFY_SECRET")


# --- preferences


async def prefer(user: str, kind: str, channel: Channel) -> None:
    """Let `user` be told of events of that kind by `channel` from now on."""
    await Records("acme_notify").aput(f"{user}.{kind}", msgspec.json.encode(channel))


async def preferred(user: User, kind: str) -> Channel:
    """What the user has said, or else the first way there is."""
    record = await Records("acme_notify").aget(f"{user.id}.{kind}")
    if record is not None:
        return _CHANNEL.decode(record.value)
    return "mail" if user.email else "webhook" if user.webhook else "none"


# --- tasks


@task(name="acme_notify.notify", queue="notify", max_attempts=8)
async def notify(user: User, event: Event) -> Channel:
    """Tell `user` of `event`, by a job of its own. It is derived from this one: a repeat tells nobody twice while the
    first stands."""
    channel = await preferred(user, event.kind)
    id = f"{current_job().id}-{channel}"
    if channel == "mail":
        if user.email is None:
            raise Reject(f"user {user.id} prefers mail and has no address")
        await send_email.options(id=id).adelay(user.email, event.title, text=event.text)
    elif channel == "webhook":
        if user.webhook is None:
            raise Reject(f"user {user.id} prefers a webhook and has none")
        await post.options(id=id).adelay(user.webhook, event)
    return channel


@task(
    name="acme_notify.post", queue="notify", max_attempts=10, wait=wait_exponential(10, max=_LONGEST_WAIT), timeout=30
)
async def post(url: str, event: Event) -> None:
    """Post `event` as JSON, signed. The receiver knows a repeat by `webhook-id`, which stays the same.

    What is not reached, or answers 5xx, 408, 425 or 429, is tried again, when `Retry-After` says if it does; another
    4xx or a redirect is dead at once, for a person to look at.
    """
    body = msgspec.json.encode(event)
    headers = {"content-type": "application/json", **signed(current_job().id, body)}
    async with httpx2.AsyncClient(transport=transport, timeout=10) as client:
        answer = await client.post(_allowed(url), content=body, headers=headers)
    if answer.is_redirect or answer.status_code in _LASTING_4XX:
        raise Reject(f"the webhook answered {answer.status_code}")
    if not answer.is_success:
        raise Retry(_asked_wait(answer), reason=f"the webhook answered {answer.status_code}")


def signed(id: str, body: bytes) -> dict[str, str]:
    """The headers by which the receiver knows who sent `body`, and when: those of standardwebhooks.com."""
    at = str(int(time.time()))
    secret = os.environ["ACME_NOTIFY_SECRET"].encode()
    signature = b64encode(hmac.digest(secret, f"{id}.{at}.".encode() + body, "sha256")).decode()
    return {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}


def _allowed(url: str) -> str:
    """`url`, if webhooks may go there: users say where, and the worker's network is not theirs."""
    parts = urlsplit(url)
    hosts = os.environ.get("ACME_NOTIFY_HOSTS", "").split(",")
    if parts.scheme != "https" or parts.hostname not in hosts:
        raise Reject("the webhook is not https, or its host is not in ACME_NOTIFY_HOSTS")
    return url


def _asked_wait(answer: httpx2.Response) -> float | None:
    """The seconds that `Retry-After` asks for, an hour at most; None leaves it to the task."""
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,6}", asked) else None

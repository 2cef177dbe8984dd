"""Fetches from Amazon's notification service, SNS: certificates, and the confirmation of a subscription.

Nothing is fetched from any other host, whatever a message says. Else the sender of a message could make us call any
server.
"""

from __future__ import annotations

import re

from jetq import SettingsError
from jetq_email.errors import TransportError, Unsendable

__all__ = ["CERTIFICATE", "SUBSCRIPTION", "confirm", "fetch"]

_HOST = r"https://sns\.[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?"

CERTIFICATE = re.compile(rf"{_HOST}/SimpleNotificationService-[0-9a-f]{{16,64}}\.pem")
SUBSCRIPTION = re.compile(rf"{_HOST}/\?[!-~]{{1,4000}}")

_LONGEST_ANSWER = 64 * 1024
_TIMEOUT = 5.0
"""Seconds for each step. SNS itself waits 15 seconds for an answer to its request."""


async def confirm(url: str) -> None:
    """Fetch the URL that confirms a subscription. Raises Unsendable if the URL is not one of SNS, and
    TransportError."""
    if not SUBSCRIPTION.fullmatch(url):
        raise Unsendable("the address at which to confirm a subscription is not one of SNS")
    await fetch(url)


async def fetch(url: str) -> bytes:
    """Return up to 64 KiB of the answer to a GET of `url`.

    Raises TransportError, and SettingsError if httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError:
        raise SettingsError(
            "webhooks of SES need the package httpx2", hint="pip install 'jetq-nats[email,http,crypto]'"
        ) from None
    content = bytearray()
    parsed = httpx2.URL(url)
    target = {"target": parsed.raw_path}  # kept out of the URL, which httpx2 logs for each request: it holds a token
    try:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", parsed.copy_with(query=None), extensions=target) as response,
        ):
            if response.status_code != 200:
                raise TransportError(f"SNS answered {response.status_code}")
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _LONGEST_ANSWER:
                    raise TransportError("SNS answered with more than it has to say")
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        # Leave out the error's own text and traceback: they hold the URL, and the URL holds a token.
        raise TransportError(f"no answer from SNS: {type(error).__name__}") from None
    return bytes(content)

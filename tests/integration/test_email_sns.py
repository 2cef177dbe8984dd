"""What is fetched from SNS, by a server on loopback in its place: within bounds, and no error names the address."""

from __future__ import annotations

import logging
import traceback

import pytest

from jetq_email.errors import TransportError, Unsendable
from jetq_email.feedback.sns import confirm, fetch
from tests.apps.http_server import CUT, Told, serving_http

TOKEN = "canary"
pytestmark = pytest.mark.anyio


async def test_what_stands_there_is_fetched() -> None:
    async with serving_http(lambda _: Told(content=b"-----BEGIN")) as server:
        for path in ("/x.pem", "/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:x&Token=%2F"):
            assert await fetch(f"{server.url}{path}") == b"-----BEGIN"
            assert server.asked[-1].path == path


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(403, b"no"), "answered 403"),
        (Told(500, b"no"), "answered 500"),
        (Told(302, b"", {"location": "/other"}), "answered 302"),
        (Told(200, b"x" * 70_000), "more than it has to say"),
        (CUT, "no answer from SNS"),
    ],
    ids=["refused", "broken", "elsewhere", "huge", "cut"],
)
async def test_what_cannot_be_had(told: Told, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving_http(lambda _: told) as server:
        with pytest.raises(TransportError, match=said) as caught:
            await fetch(f"{server.url}/?Token={TOKEN}")
        assert len(server.asked) == 1
    assert TOKEN not in "".join(traceback.format_exception(caught.value)) + caplog.text


async def test_nobody_there() -> None:
    async with serving_http(lambda _: CUT) as server:
        url = server.url
    with pytest.raises(TransportError, match="ConnectError"):
        await fetch(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com.example.com/?Action=ConfirmSubscription",
        "https://user@sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com/?a\nb",
        "https://127.0.0.1/?Action=ConfirmSubscription",
    ],
)
async def test_no_other_server_is_visited(url: str) -> None:
    """Guarantee: what is to be confirmed is confirmed at SNS alone, whoever wrote the job."""
    with pytest.raises(Unsendable, match="not one of SNS"):
        await confirm(url)

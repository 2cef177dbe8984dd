"""Many mails through each provider, on a real worker, while the provider fails at random: each recipient once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from jetq import Jetq
from jetq_email import send_email
from jetq_email.providers import PROVIDERS
from tests.apps.http_server import CUT, Asked, HttpServer, Told, serving_http
from tests.apps.mail_providers import SHAPES, variables
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio

each = pytest.mark.parametrize("name", SHAPES)

ATTEMPTS = 25
"""Of each mail, so that faults alone exhaust none."""


class Faulty:
    """A provider that fails by chance, the same way for the same seed: which request of which recipient meets what.

    delivered: how often each recipient got a mail. doubtful: those that got one of which the worker was not told.
    Recipients that begin with `bad` are refused for good.
    """

    def __init__(self, name: str, seed: int, faults: float = 0.3) -> None:
        self.shape = SHAPES[name]
        self.seed = seed
        self.faults = faults
        self.asked: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.doubtful: set[str] = set()
        self.met: Counter[str] = Counter()
        self.keys: dict[str, Told] = {}

    def answer(self, asked: Asked) -> Told:
        """What a request is told."""
        [recipient] = self.shape.named(asked)
        self.asked[recipient] += 1
        chance = random.Random(f"{self.seed} {recipient} {self.asked[recipient]}")
        fault = chance.choice(["cut", "failed", "slower", "taken and cut", "taken and failed"])
        if chance.random() > self.faults:
            fault = "none"
        self.met[fault] += 1
        if fault == "slower":
            return msgspec.structs.replace(
                self.shape.slower, headers={**self.shape.slower.headers, "retry-after": "0.05"}
            )
        if fault in ("cut", "failed"):
            return CUT if fault == "cut" else Told(503, b"upstream connect error")
        told = self._taken(asked, recipient)
        if fault == "none":
            return told
        if self.delivered[recipient]:
            self.doubtful.add(recipient)
        return CUT if fault == "taken and cut" else Told(504, b"upstream request timeout")

    def _taken(self, asked: Asked, recipient: str) -> Told:
        if recipient.startswith("bad"):
            return self.shape.refused
        key = None if self.shape.key is None else self.shape.key(asked)
        if key in self.keys:
            return self.keys[key] if self.shape.repeated is None else self.shape.repeated
        if key is not None:
            self.keys[key] = self.shape.ok
        self.delivered[recipient] += 1
        return self.shape.ok


@asynccontextmanager
async def mailing(nats_url: str, name: str, monkeypatch: pytest.MonkeyPatch, server: HttpServer) -> AsyncIterator[Jetq]:
    for variable, value in variables(name, server.url, retry_wait=0.05, connections=50, timeout=10).items():
        monkeypatch.setenv(variable, value)
    app = fresh_app(nats_url)
    async with working(app, queues=["email"], concurrency=50):
        yield app


def mails(recipients: list[str], **options: Any) -> list[Any]:
    return [send_email.options(**options).bind(each, "Hi", text="Hello") for each in recipients]


async def through_faults(nats_url: str, name: str, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [f"u{number}@example.com" for number in range(count)]
    bad = [f"bad{number}@example.com" for number in range(count // 20)]
    provider = Faulty(name, seed)
    async with serving_http(provider.answer) as server, mailing(nats_url, name, monkeypatch, server) as app:
        await app.adelay_many(mails(good + bad, max_attempts=ATTEMPTS))
        await settled(app, 100)
        letters = await (await app.session.broker()).dead("email", limit=count)
    assert len(letters) == len(bad)
    assert {each.letter.reason for each in letters} == {"rejected"}
    assert sorted(msgspec.json.decode(each.body)["to"] for each in letters) == sorted(bad)
    assert set(provider.delivered) == set(good)
    twice = {each for each, times in provider.delivered.items() if times > 1}
    if PROVIDERS[name].repeats:
        assert twice <= provider.doubtful
    else:
        assert twice == set()
    assert min(provider.met[fault] for fault in ("cut", "failed", "slower", "taken and cut", "taken and failed")) > 0


@each
async def test_a_hundred_mails_through_faults(nats_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: whatever a provider does, each recipient gets the mail, once if it has a key to tell a repeat by, and
    else twice only if it took a mail and did not say so; who is refused for good is in the dead letters."""
    await through_faults(nats_url, name, 100, 7, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1])
@each
async def test_a_thousand_mails_through_faults(
    nats_url: str, name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: the same of more of them."""
    await through_faults(nats_url, name, 1000, seed, monkeypatch)


@each
async def test_a_provider_that_wants_fewer_mails_costs_no_attempt(
    nats_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: mails that are one too many are sent later, those too that have one attempt."""
    shape = SHAPES[name]
    slower = msgspec.structs.replace(shape.slower, headers={**shape.slower.headers, "retry-after": "0.05"})
    left = [slower] * 60
    good = [f"u{number}@example.com" for number in range(30)]
    delivered: Counter[str] = Counter()

    def answer(asked: Asked) -> Told:
        if left:
            return left.pop()
        delivered.update(shape.named(asked))
        return shape.ok

    async with serving_http(answer) as server, mailing(nats_url, name, monkeypatch, server) as app:
        await app.adelay_many(mails(good, max_attempts=1))
        await settled(app, 50)
        assert await (await app.session.broker()).dead("email") == []
    assert delivered == Counter(good)


async def test_one_that_is_told_to_wait_holds_the_others_back(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: when a provider wants fewer mails, no worker sends it any until it is time."""
    shape = SHAPES["ses"]
    slower = msgspec.structs.replace(shape.slower, headers={**shape.slower.headers, "retry-after": "2"})
    asked: list[float] = []

    def answer(_: Asked) -> Told:
        asked.append(time.monotonic())
        return slower if len(asked) == 1 else shape.ok

    async with serving_http(answer) as server, mailing(nats_url, "ses", monkeypatch, server) as app:
        first = await app.aenqueue(mails(["first@example.com"])[0])
        await until(lambda: asked)
        async with asyncio.timeout(20):
            while await first.astatus() == "running":  # it is put off when its pause is known everywhere
                await asyncio.sleep(0.02)
        await app.adelay_many(mails([f"u{number}@example.com" for number in range(10)]))
        await settled(app, 50)
    assert len(asked) == 12
    assert asked[1] - asked[0] >= 1.9  # a slow machine makes it longer, never shorter

"""The application by itself: routes, methods, sizes, answers, what is stored, and what stands in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from jetq import BrokerUnavailable, Call, NotStored
from jetq_email.webhooks import Webhooks
from jetq_email.webhooks.ses import Ses
from tests.apps.webhooks import CERTIFICATE, PROVIDERS, VARIABLES, bounces, signed, sns

pytestmark = pytest.mark.anyio


class Jobs:
    """In place of an app: what was stored, or why nothing is."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []
        self.error: Exception | None = None

    async def adelay_many(self, calls: Sequence[Call[Any]]) -> None:
        if self.error is not None:
            raise self.error
        self.calls += calls

    @property
    def events(self) -> list[Any]:
        return [event for call in self.calls for event in msgspec.json.decode(call.body)["events"]]

    @property
    def ids(self) -> list[str | None]:
        return [call.settings.id for call in self.calls]


async def fetch(url: str) -> bytes:
    return CERTIFICATE


def application(jobs: Any) -> Webhooks:
    made = Webhooks(jobs)
    for hook in made._hooks.values():
        if isinstance(hook, Ses):
            hook._fetch = fetch
    return made


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return Jobs()


@pytest.fixture
async def client(jobs: Jobs) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(application(jobs))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hooks.example") as client:
        yield client


async def post(client: httpx2.AsyncClient, provider: str, content: object, **other: Any) -> httpx2.Response:
    headers, body = signed(provider, content, **other)
    return await client.post(f"/{provider}", headers=headers, content=body)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_genuine_is_stored(provider: str, client: httpx2.AsyncClient, jobs: Jobs) -> None:
    for content in bounces(provider, "ann@example.com", "bob@example.com"):
        assert (await post(client, provider, content)).status_code == 200
    told = [(event["kind"], event["address"], event["provider"]) for event in jobs.events]
    assert told == [("bounce", "ann@example.com", provider), ("bounce", "bob@example.com", provider)]
    assert {call.task for call in jobs.calls} == {"jetq_email.take_events"}
    assert {call.queue for call in jobs.calls} == {"email"}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_same_again_is_the_same_job(provider: str, client: httpx2.AsyncClient, jobs: Jobs) -> None:
    """Guarantee: a request that comes again makes no second job, also if it is signed anew."""
    (content,) = bounces(provider, "ann@example.com")
    (other,) = bounces(provider, "bob@example.com")
    for what in (content, content, other):
        assert (await post(client, provider, what)).status_code == 200
    once, again, another = jobs.ids
    assert once == again != another


async def test_a_new_signature_makes_no_new_job(client: httpx2.AsyncClient, jobs: Jobs) -> None:
    (content,) = bounces("mailgun", "ann@example.com")
    for token in ("a" * 50, "b" * 50):
        await post(client, "mailgun", content, token=token)
    assert len(set(jobs.ids)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_not_genuine_is_not_stored(
    provider: str, client: httpx2.AsyncClient, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: what no key in the settings fits is answered 401 and stored nowhere; the log has nothing of it."""
    caplog.set_level(logging.DEBUG, "jetq.email")
    _, body = signed(provider, bounces(provider, "ann@example.com")[0])
    body = body.replace(b'"signature":"', b'"signature":"0').replace(b'"Signature":"', b'"Signature":"AAAA')
    response = await client.post(f"/{provider}", headers={"authorization": "Basic Y2FuYXJ5"}, content=body)
    assert (response.status_code, response.content, jobs.calls) == (401, b"", [])
    assert ("www-authenticate" in response.headers) is (provider in ("postmark", "brevo"))
    (record,) = [each for each in caplog.records if each.name == "jetq.email"]
    assert f"a webhook of {provider} was answered 401" in record.getMessage()
    assert record.levelno == logging.WARNING  # a wrong key in the settings is to be seen
    assert "example.com" not in caplog.text and "canary" not in caplog.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_route_without_its_secret_is_not_there(
    provider: str, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: no provider is served without something to verify it by."""
    for name in VARIABLES:
        if name.startswith(f"JETQ_EMAIL_{provider.upper()}_"):
            monkeypatch.delenv(name)
    transport = httpx2.ASGITransport(application(jobs))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hooks.example") as client:
        for each in PROVIDERS:
            response = await post(client, each, bounces(each, "ann@example.com")[0])
            assert response.status_code == (404 if each == provider else 200)
        for path in ("/", "/other", f"/{provider}/more", "/%00"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods(method: str, client: httpx2.AsyncClient) -> None:
    response = await client.request(method, "/postmark")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def _parts(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 65536


@pytest.mark.parametrize(("parts", "status"), [(16, 400), (17, 413)])
async def test_a_body_of_more_than_a_mebibyte(parts: int, status: int, client: httpx2.AsyncClient) -> None:
    headers, _ = signed("postmark", {})
    assert (await client.post("/postmark", headers=headers, content=_parts(parts))).status_code == status


async def test_a_body_that_says_so_is_not_even_read(jobs: Jobs) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    async def send(message: Any) -> None:
        sent.append(message)

    for length in (b"1048577", b"9" * 5000):
        scope = {"type": "http", "method": "POST", "path": "/brevo", "headers": [(b"Content-Length", length)]}
        await application(jobs)(scope, receive, send)
    assert [each["status"] for each in sent if "status" in each] == [413, 413]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_signed_and_makes_no_sense(provider: str, client: httpx2.AsyncClient, jobs: Jobs) -> None:
    status = {"mailgun": 200, "ses": 200}.get(provider, 400)  # where what is signed holds what is told as text or part
    assert (await post(client, provider, b"junk" if provider != "mailgun" else "junk")).status_code == status
    assert jobs.calls == []


async def test_what_is_unknown_is_answered_and_not_stored(client: httpx2.AsyncClient, jobs: Jobs) -> None:
    for provider in PROVIDERS:
        assert (await post(client, provider, {"event": "tomorrow"})).status_code == 200
    assert jobs.calls == []


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), NotStored("who knows ann@example.com")])
async def test_what_cannot_be_stored_is_to_come_again(
    error: Exception, client: httpx2.AsyncClient, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: no request is answered with success whose events are not stored."""
    jobs.error = error
    response = await post(client, "brevo", bounces("brevo", "ann@example.com")[0])
    assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    assert f"cannot be stored: {type(error).__name__}" in caplog.text
    assert "example.com" not in caplog.text


async def test_a_certificate_that_cannot_be_had_now(jobs: Jobs) -> None:
    from jetq_email.errors import TransportError

    async def away(url: str) -> bytes:
        raise TransportError("away")

    made = application(jobs)
    ses = made._hooks["ses"]
    assert isinstance(ses, Ses)
    ses._fetch = away
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(made), base_url="http://hooks.example") as client:
        assert (await post(client, "ses", bounces("ses", "ann@example.com")[0])).status_code == 503


async def test_many_events_are_several_jobs(client: httpx2.AsyncClient, jobs: Jobs) -> None:
    (content,) = bounces("sendgrid", *(f"{number}@example.com" for number in range(1201)))
    assert (await post(client, "sendgrid", content)).status_code == 200
    assert [len(msgspec.json.decode(call.body)["events"]) for call in jobs.calls] == [500, 500, 201]
    assert len(set(jobs.ids)) == 3


async def test_the_largest_events_still_fit_into_a_message(client: httpx2.AsyncClient, jobs: Jobs) -> None:
    long = {"event": "bounce", "reason": "ü" * 200, "sg_message_id": "ü" * 200, "timestamp": 1600112492}
    contents = [{**long, "email": f"{'a' * 300}{number}@example.com"} for number in range(700)]
    assert (await post(client, "sendgrid", contents)).status_code == 200
    assert max(len(call.body) for call in jobs.calls) < 900_000


async def test_a_subscription_is_confirmed_in_a_job(client: httpx2.AsyncClient, jobs: Jobs) -> None:
    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=canary"
    for _ in range(2):
        message = sns("You have chosen", time.time(), Type="SubscriptionConfirmation", Token="canary", SubscribeURL=url)
        response = await client.post("/ses", content=msgspec.json.encode(message))
        assert response.status_code == 200
    assert {call.task for call in jobs.calls} == {"jetq_email.confirm_subscription"}
    assert msgspec.json.decode(jobs.calls[0].body) == {"url": url}
    assert len(set(jobs.ids)) == 1
    assert "canary" not in repr(jobs.calls[0])


@pytest.mark.parametrize("prefix", ["/hooks", "/a/b/mail"])
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
async def test_mounted_in_another_application(framework: str, prefix: str, jobs: Jobs) -> None:
    made = application(jobs)
    outer: Any
    if framework == "starlette":
        outer = Starlette(routes=[Mount(prefix, app=made)])
    else:
        outer = FastAPI()
        outer.mount(prefix, made)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(outer), base_url="http://hooks.example") as client:
        for provider in PROVIDERS:
            headers, body = signed(provider, bounces(provider, "ann@example.com")[0])
            path = f"{prefix}/{provider}"
            assert (await client.post(path, headers=headers, content=body)).status_code == 200
            assert (await client.get(path)).status_code == 405
        assert (await client.get(f"{prefix}/other")).status_code == 404
    assert len(jobs.calls) == 6


async def test_the_lifespan_is_answered(jobs: Jobs) -> None:
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    told: list[Any] = []

    async def receive() -> Any:
        return next(asked)

    async def send(message: Any) -> None:
        told.append(message["type"])

    await application(jobs)({"type": "lifespan"}, receive, send)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    told.clear()

    async def say(message: Any) -> None:
        told.append(message["type"])

    await application(jobs)({"type": "websocket"}, receive, say)
    assert told == ["websocket.close"]


async def test_a_client_that_goes_away_in_the_middle(jobs: Jobs) -> None:
    told = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(told)

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "POST", "path": "/brevo", "headers": []}
    await application(jobs)(scope, receive, send)
    assert jobs.calls == []


# --- anything at all

_NAMES = st.sampled_from(
    "event email type data RecordType Type Email Recipient event-data recipient severity reason signature to bounce"
    " notificationType eventType bouncedRecipients emailAddress complaint timestamp ts_epoch status headers".split()
)
_WORDS = st.sampled_from(
    ["bounce", "Bounce", "HardBounce", "failed", "permanent", "email.bounced", "hard_bounce", "Permanent", "a@b.c"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=6),
    max_leaves=25,
)


@pytest.mark.parametrize("provider", PROVIDERS)
@given(content=_JSON | st.binary(max_size=200), at=st.just(None) | st.floats(0, 4e9))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_body_is_an_error_of_ours(provider: str, content: Any, at: float | None, jobs: Jobs) -> None:
    """Guarantee: whatever comes, signed or not, is answered, and never with a 500."""
    made = application(jobs)
    if isinstance(content, bytes) and provider == "mailgun":
        content = content.decode("latin-1")
    for is_signed in (True, False):
        headers, body = signed(provider, content, at=at) if is_signed else ({}, msgspec.json.encode(content))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(made), base_url="http://hooks.example") as client:
            response = await client.post(f"/{provider}", headers=headers, content=body)
        assert response.status_code in (200, 400, 401)
        assert is_signed or response.status_code != 200

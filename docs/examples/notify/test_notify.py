"""The plugin under test: its jobs run in memory, and so do the mails and the receiver of webhooks."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterator

import acme_notify
import httpx2
import pytest
from acme_notify import Channel, Event, User, jetq_ready, notify, post, prefer

from jetq import SettingsError, task
from jetq.testing import AppTester
from jetq_email.transports.memory import OUTBOX

SECRET = "a secret for tests"
ANN = User(id="7", email="ann@example.com", webhook="https://hooks.example/ann")
INVOICE = Event(kind="invoice", title="Your invoice", text="It is due.")


@task(queue="notify")
async def choose(user: str, kind: str, channel: Channel) -> None:
    await prefer(user, kind, channel)


class Receiver:
    """Answers webhooks with `answers`, the last of them for ever, and keeps what came."""

    def __init__(self) -> None:
        self.answers = [httpx2.Response(200)]
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return httpx2.Response(answer.status_code, headers=answer.headers)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name, value in {
        "ACME_NOTIFY_SECRET": SECRET,
        "ACME_NOTIFY_HOSTS": "hooks.example",
        "JETQ_EMAIL_TRANSPORT": "memory",
        "JETQ_EMAIL_SENDER": "shop@example.org",
    }.items():
        monkeypatch.setenv(name, value)
    receiver = Receiver()
    monkeypatch.setattr(acme_notify, "transport", httpx2.MockTransport(receiver))
    OUTBOX.clear()
    yield receiver
    OUTBOX.clear()


def test_mail_is_the_first_way(jetq_app: AppTester, receiver: Receiver) -> None:
    notify.delay(ANN, INVOICE)
    assert jetq_app.run_until_empty().succeeded == 2
    assert [(mail.recipients, mail.fields.subject) for mail in OUTBOX] == [(("ann@example.com",), "Your invoice")]
    assert not receiver.requests


def test_who_prefers_a_webhook_gets_one_that_is_signed(jetq_app: AppTester, receiver: Receiver) -> None:
    choose.delay("7", "invoice", "webhook")
    jetq_app.run_until_empty()
    notify.delay(ANN, INVOICE)
    jetq_app.run_until_empty()
    (request,) = receiver.requests
    assert not OUTBOX and request.content == b'{"kind":"invoice","title":"Your invoice","text":"It is due."}'
    given = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.content
    signature = b64encode(hmac.digest(SECRET.encode(), given, "sha256")).decode()
    assert request.headers["webhook-signature"] == f"v1,{signature}"


def test_who_prefers_nothing_gets_nothing_of_that_kind(jetq_app: AppTester, receiver: Receiver) -> None:
    choose.delay("7", "invoice", "none")
    jetq_app.run_until_empty()
    notify.delay(ANN, INVOICE)
    notify.delay(ANN, Event(kind="login", title="A new login", text="From Mars."))
    jetq_app.run_until_empty()
    assert [mail.fields.subject for mail in OUTBOX] == ["A new login"] and not receiver.requests


def test_a_receiver_that_is_busy_is_asked_again_when_it_says(jetq_app: AppTester, receiver: Receiver) -> None:
    receiver.answers = [
        httpx2.Response(503),
        httpx2.Response(429, headers={"retry-after": "600"}),
        httpx2.Response(204),
    ]
    post.delay("https://hooks.example/ann", INVOICE)
    jetq_app.run_until_empty()
    jetq_app.advance(20)
    jetq_app.run_until_empty()
    assert len(receiver.requests) == 2
    jetq_app.advance(590)
    jetq_app.run_until_empty()
    assert len(receiver.requests) == 2
    jetq_app.advance(20)
    assert jetq_app.run_until_empty().succeeded == 1
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_an_answer_that_lasts_is_left_to_people(jetq_app: AppTester, receiver: Receiver, status: int) -> None:
    receiver.answers = [httpx2.Response(status, headers={"location": "http://127.0.0.1/"})]
    post.delay("https://hooks.example/ann", INVOICE)
    assert jetq_app.run_until_empty().dead == 1
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("url", ["http://hooks.example/", "https://127.0.0.1/", "https://hooks.example@evil.example/"])
def test_webhooks_go_nowhere_else(jetq_app: AppTester, receiver: Receiver, url: str) -> None:
    post.delay(url, INVOICE)
    assert jetq_app.run_until_empty().dead == 1
    assert not receiver.requests


def test_a_worker_without_a_secret_leaves_the_queue(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    jetq_ready()
    monkeypatch.delenv("ACME_NOTIFY_SECRET")
    with pytest.raises(SettingsError, match="ACME_NOTIFY_SECRET"):
        jetq_ready()

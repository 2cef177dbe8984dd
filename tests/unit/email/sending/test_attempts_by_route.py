"""What an attempt of a mail makes of what became of it on its route."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jetq import RateLimited, Retry, Snooze
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq_email import send_email
from jetq_email.errors import OutcomeUnknown, ServerBusy, Throttled
from jetq_email.message import Envelope
from jetq_email.outcomes import Refusal, Sent
from jetq_email.sending import attempt as sending_module

pytestmark = pytest.mark.anyio


class Transport:
    def __init__(self, does: Exception | Sent) -> None:
        self.does = does
        self.via: list[str | None] = []

    async def send(self, envelope: Envelope) -> Sent:
        self.via.append(envelope.via)
        if isinstance(self.does, Exception):
            raise self.does
        return self.does

    async def close(self) -> None: ...


async def attempt(monkeypatch: pytest.MonkeyPatch, transport: Transport, age: float = 0.0, **arguments: Any) -> Any:
    """One attempt of a job that was enqueued so many seconds ago: what it raised."""

    async def transport_for(settings: object) -> Transport:
        return transport

    monkeypatch.setenv("JETQ_EMAIL_SUPPRESSION", "false")  # there is no broker
    monkeypatch.setattr(sending_module, "transport_for", transport_for)
    enqueued = datetime.now(UTC) - timedelta(seconds=age)
    job = JobContext("job1", 1, 8, "jetq_email.send_email", "email", enqueued, None, "worker")
    token = CURRENT.set(Current(lambda: job, object()))
    try:
        await send_email(["a@x.example", "b@x.example"], "Hi", text="t", sender="s@shop.example", **arguments)
    except Exception as error:
        return error
    finally:
        CURRENT.reset(token)
    return None


def unknown(via: str | None) -> OutcomeUnknown:
    error = OutcomeUnknown("the connection was lost")
    error.via = via
    return error


async def test_the_next_attempt_is_for_the_route_that_may_have_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = await attempt(monkeypatch, Transport(unknown("postmark")))
    assert isinstance(raised, Retry) and raised.arguments == {"via": "postmark"}
    assert "OutcomeUnknown: the connection was lost" in str(raised)
    again = Transport(Sent(("a@x.example", "b@x.example")))
    assert await attempt(monkeypatch, again, **raised.arguments) is None
    assert again.via == ["postmark"]


async def test_without_routes_an_unknown_outcome_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(await attempt(monkeypatch, Transport(unknown(None))), OutcomeUnknown)


@pytest.mark.parametrize("lost", [True, False])
async def test_who_may_have_it_gets_it_by_the_same_route_alone(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """Guarantee: of several recipients, those whose transaction was lost get the repeat by the route that had it."""
    refusals = (Refusal("b@x.example", 451, "4.4.2 lost", unknown=lost),)
    raised = await attempt(monkeypatch, Transport(Sent(("a@x.example",), refusals, via="smtp")))
    assert isinstance(raised, Retry)
    assert raised.arguments == {"recipients": ["b@x.example"], **({"via": "smtp"} if lost else {})}


async def test_a_mail_whose_routes_are_left_alone_waits_as_long_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: for a day it costs no attempt."""
    busy = Transport(ServerBusy("left alone", after=40))
    for age in (0, 23 * 3600):
        raised = await attempt(monkeypatch, busy, age)
        assert type(raised) is Snooze and 40 <= raised.after <= 50
    assert isinstance(await attempt(monkeypatch, busy, 25 * 3600), ServerBusy)
    slower = Transport(Throttled("slower", after=40))
    assert isinstance(await attempt(monkeypatch, slower), RateLimited)

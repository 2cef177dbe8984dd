"""The evaluator of cron against the server it speaks for: what it takes, and when it ticks next."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import nats
import pytest
from nats.aio.client import Client

from jetq.errors import DefinitionError
from jetq.model.definitions.timetable import Cron, parse_cron, parse_every
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

ZONES = [
    "Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "America/Santiago", "America/Havana",
    "America/St_Johns", "Asia/Beirut", "Asia/Jerusalem", "Africa/Cairo", "Australia/Sydney", "Australia/Lord_Howe",
    "Pacific/Auckland", "Pacific/Chatham", "Asia/Kolkata", "Asia/Tokyo", "Atlantic/Azores", "America/Scoresbysund",
]  # fmt: skip


async def _connect(url: str) -> Client:
    client = await nats.connect(url)
    config = {"name": "CRON", "subjects": ["cron.>", "tick.>"], "allow_msg_schedules": True, "storage": "memory"}
    await client.request("$JS.API.STREAM.CREATE.CRON", json.dumps(config).encode(), timeout=5)
    return client


async def _publish(client: Client, name: str, pattern: str, zone: str | None = None) -> bool:
    """Whether the server takes it."""
    headers = {"Nats-Schedule": pattern, "Nats-Schedule-Target": f"tick.{name}"}
    if zone is not None:
        headers["Nats-Schedule-Time-Zone"] = zone
    answer = await client.request(f"cron.{name}", b"", headers=headers, timeout=5)
    return "error" not in json.loads(answer.data)


def _parsed(pattern: str, zone: str | None = None) -> bool:
    try:
        parse_cron(pattern, zone)
    except DefinitionError:
        return False
    return True


TAKEN = [
    "* * * * * *", "0 0 9 * * MON-FRI", "0 0 9 ? * mon", "*/5 * * * * *", "0 5/15 * * * *", "1,2,30-40/3 * * * * *",
    "0 0 0 29 2 *", "0 0 0 1 jan,JUL *", "0 0 0 * * 0", "0 0 0 13 * 5", "0 0-23/2 * * * *", "0 0 0 */40 * *",
    "*/61 * * * * *", "0 0 0 */01 * 1", "?/5 * * * * *", "0 0 0 * JAN-MAR/2 sun-tue",
]  # fmt: skip
REFUSED = [
    "60 * * * * *", "0 60 * * * *", "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 32 * *", "0 0 0 * 13 *", "0 0 0 * * 7",
    "0 0 0 * * sunday", "0 */0 * * * *", "0 5-2 * * * *", "0 1-2-3 * * * *", "0 1/2/3 * * * *", "0 0 0 30 2 *",
    "x * * * * *", "0 -1 * * * *", "* * * * * * *",
    "*/99999999999999999999 * * * * *", "0 0 0 * * fri-mon", "0 0 0 L * *", "0 0 0 * * 1#2", "5/ * * * * *",
]  # fmt: skip


async def test_it_takes_the_patterns_that_the_server_takes(nats_server: NatsServerFactory) -> None:
    client = await _connect(nats_server().url)
    for number, pattern in enumerate([*TAKEN, *REFUSED]):
        assert await _publish(client, f"p{number}", pattern) is _parsed(pattern) is (pattern in TAKEN), pattern
    for number, zone in enumerate([*ZONES, "Europe/Berln", "+01:00", "CEST5"]):
        assert await _publish(client, f"z{number}", "0 0 9 * * *", zone) is _parsed("0 0 9 * * *", zone), zone
    for seconds in (1, 90, 9_223_372_036):
        assert await _publish(client, f"every{seconds}", parse_every(seconds).pattern)
    assert not await _publish(client, "longer", "@every 9223372037s")
    assert not await _publish(client, "zoned", parse_every(90).pattern, "Europe/Berlin")
    await client.close()


@pytest.mark.slow
async def test_it_says_the_next_times_that_the_server_says(nats_server: NatsServerFactory) -> None:
    """The server tells with each tick when the next one is. So these tick in some seconds, and next far from now: where
    that can be had, on a day on which the clocks change."""
    client = await _connect(nats_server().url)
    first = int(time.time()) + 5
    crons = [cron for zone in ZONES for cron in _patterns(zone, first)]
    for number, cron in enumerate(crons):
        assert await _publish(client, f"n{number}", cron.pattern, cron.zone), cron
        assert cron.next(first - 1) == first, cron
    assert time.time() < first - 0.5
    for number, cron in enumerate(crons):
        while "error" in (answer := await _message(client, last_by_subj=f"tick.n{number}")):
            await asyncio.sleep(0.1)
        assert _next_of(answer) == cron.next(first), (cron.pattern, cron.zone)
    await client.close()


@pytest.mark.slow
async def test_an_interval_counts_from_its_writing_rounded_to_a_second(nats_server: NatsServerFactory) -> None:
    client = await _connect(nats_server().url)
    stored = []
    every = parse_every(2)
    for number in range(3):
        assert await _publish(client, f"e{number}", every.pattern)
        answer = await _message(client, last_by_subj=f"cron.e{number}")
        stored.append(datetime.fromisoformat(answer["message"]["time"]).timestamp())
        await asyncio.sleep(0.3)
    for number, at in enumerate(stored):
        while "error" in (first := await _message(client, seq=1, next_by_subj=f"tick.e{number}")):
            await asyncio.sleep(0.1)
        assert _next_of(first) == every.next(every.next(math.floor(at + 0.5)))
    await client.close()


async def _message(client: Client, **query: object) -> dict[str, dict[str, str]]:
    answer = await client.request("$JS.API.STREAM.MSG.GET.CRON", json.dumps(query).encode(), timeout=5)
    message: dict[str, dict[str, str]] = json.loads(answer.data)
    return message


def _next_of(answer: dict[str, dict[str, str]]) -> float:
    headers = base64.b64decode(answer["message"]["hdrs"]).decode()
    line = next(line for line in headers.split("\r\n") if line.startswith("Nats-Schedule-Next: "))
    return datetime.fromisoformat(line.partition(": ")[2]).timestamp()


def _patterns(zone: str, first: int) -> list[Cron]:
    """Patterns that tick at `first`, and next at times of which each stresses something else."""
    local = datetime.fromtimestamp(first, ZoneInfo(zone))
    at = f"{local.second} {local.minute} {local.hour}"
    texts = [
        f"{at} * * *",
        f"{at} {local.day} * *",
        f"{at} {local.day} {local.month} *",
        f"{at} 13 * {local.isoweekday() % 7}",
        f"{local.second} */1 * * * *",
        f"{at} {local.day},29 {local.month},2 *",
    ]
    for change in _changes(zone, first):
        texts.append(f"{at} {local.day} {local.month},{change.month} *")  # days walked over the change
        for hour in {change.hour, (change.hour - 1) % 24, (change.hour + 1) % 24, local.hour}:
            days, months = f"{local.day},{change.day}", f"{local.month},{change.month}"
            texts.append(f"{local.second} {local.minute} {local.hour},{hour} {days} {months} *")
    return [cron for text in texts if (cron := parse_cron(text, zone)).next(first - 1) == first]


def _changes(zone: str, first: int) -> list[datetime]:
    """The local times at which clocks change in the next 15 months."""
    found, info = [], ZoneInfo(zone)
    at = datetime.fromtimestamp(first, UTC).replace(minute=0, second=0, microsecond=0)
    before = at.astimezone(info).utcoffset()
    for _ in range(15 * 31 * 24):
        at += timedelta(hours=1)
        local = at.astimezone(info)
        if local.utcoffset() != before:
            before = local.utcoffset()
            found.append(local)
    return found

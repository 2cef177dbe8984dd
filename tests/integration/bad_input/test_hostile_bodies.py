"""Whatever stands in a queue, a worker takes it or dead-letters it with its bytes, once, and goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from jetq import Jetq
from jetq.encoding.json_text import DEEPEST
from jetq.model.dead_letter import DeadEntry
from jetq.model.result import ResultRecord
from tests.apps.wire import Wire
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio

DEEP = b"[" * 100_000
BALANCED = b"[" * 700 + b"]" * 700
JUST_TOO_DEEP = b"[" * DEEPEST + b"]" * DEEPEST  # the arguments themselves are one level more

STRICT_BODIES = {
    "empty": b"",
    "spaces": b"   ",
    "binary": b"\xff\x00\x80random",
    "bom": b"\xef\xbb\xbf" + b'{"n":1}',
    "utf-16": '{"n":1}'.encode("utf-16"),
    "null": b"null",
    "number": b"7",
    "text": b'"n"',
    "array": b"[1,2]",
    "deep-array": DEEP,
    "deep-object": b'{"n":' * 50_000,
    "deep-unknown": b'{"n":1,"zz":' + BALANCED + b"}",
    "deep-value": b'{"n":' + DEEP + b"}",
    "cut": b'{"n":1',
    "rest": b'{"n":1}x',
    "two": b'{"n":1}{"n":2}',
    "duplicate": b'{"n":1,"n":"x"}',
    "missing": b"{}",
    "unknown": b'{"n":1,"zz":2}',
    "many-unknown": b"{" + b",".join(b'"k%d":1' % each for each in range(20_000)) + b"}",
    "long-key": b'{"' + b"k" * 800_000 + b'":1}',
    "wrong": b'{"n":"three"}',
    "float": b'{"n":1.5}',
    "huge-float": b'{"n":1e999999}',
    "huge-int": b'{"n":1' + b"0" * 5000 + b"}",
    "nan": b'{"n":NaN}',
    "infinity": b'{"n":-Infinity}',
    "bool": b'{"n":true}',
    "bad-utf-8": b'{"n":"\xff\xfe"}',
    "bad-key": b'{"\xff":1}',
    "sealed": b"\xffJQ1S\x02k1" + bytes(40),
}

LOOSE_BODIES = {
    "loose-deep": b'{"v":' + DEEP + b"}",
    "loose-balanced": b'{"v":' + BALANCED + b"}",
    "loose-just-too-deep": b'{"v":' + JUST_TOO_DEEP + b"}",
    "loose-braces-in-texts": b'{"v":' + b'["]",' * 700 + b"1" + b"]" * 700 + b"}",
    "loose-huge-float": b'{"v":1e999999}',
    "loose-nan": b'{"v":NaN}',
    "loose-bad-utf-8": b'{"v":"\xff\xfe"}',
    "loose-surrogate": b'{"v":"\\ud800"}',
}

JETQ_HEADERS = {  # none longer: the server refuses headers above 64 KiB (nats-server 2.15)
    "h-empty": b"",
    "h-nonsense": b"{nonsense",
    "h-null": b"null",
    "h-array": b"[]",
    "h-deep": b'{"zz":' + b"[" * 50_000,
    "h-deep-balanced": b'{"zz":' + b"[" * 700 + b"]" * 700 + b"}",
    "h-newer": b'{"v":99}',
    "h-attempt-0": b'{"attempt":0}',
    "h-attempt-negative": b'{"attempt":-1}',
    "h-attempt-text": b'{"attempt":"1"}',
    "h-attempt-2**31": b'{"attempt":2147483648}',
    "h-attempt-2**63": b'{"attempt":9223372036854775807}',
    "h-attempt-2**64": b'{"attempt":18446744073709551615}',
    "h-attempt-400": b'{"attempt":1' + b"0" * 400 + b"}",
    "h-attempt-long": b'{"attempt":1' + b"0" * 5000 + b"}",
    "h-snoozes": b'{"snoozes":18446744073709551615}',
    "h-replays": b'{"replays":-9}',
    "h-dropped": b'{"errors_dropped":18446744073709551615}',
    "h-crashes": b'{"crashes":18446744073709551615}',
    "h-max": b'{"max_attempts":-5}',
    "h-timeout": b'{"timeout":1e300}',
    "h-timeout-negative": b'{"timeout":-1}',
    "h-timeout-infinite": b'{"timeout":1e999}',
    "h-ttl": b'{"result_ttl":1e300}',
    "h-ttl-negative": b'{"result_ttl":-5}',
    "h-enqueued": b'{"enqueued":1e300}',
    "h-enqueued-negative": b'{"enqueued":-1e300}',
    "h-nominal": b'{"schedule":"s","nominal":1e300}',
    "h-expires": b'{"expires":1e300}',
    "h-in-line": b'{"in_line":1e300}',
    "h-unknown-since": b'{"unknown_since":1e300}',
    "h-error-at": b'{"errors":[{"attempt":1,"type":"t","message":"m","at":1e300}]}',
    "h-error-attempt": b'{"errors":[{"attempt":-18,"type":"t","message":"m","at":1}]}',
    "h-unique": b'{"unique":"never"}',
    "h-place": b'{"v":2,"flow":["w","default","l","s.>",0,1,1,4e9,1,1.7e9,false]}',
    "h-place-short": b'{"v":2,"flow":["w"]}',
    "h-place-object": b'{"v":2,"flow":{}}',
}

STRAY_SUBJECTS = {
    "short": "run.short",
    "long": "run.good.-.id.and.more",
    "odd-id": "run.good.-.a$b",
    "odd-key": "run.good.k$.id-1",
    "star-task": "run.*.-.id-2",
    "star-id": "run.good.-.*",
    "wild-id": "run.good.-.>",
    "unicode-id": "run.good.-.\N{SNOWMAN}",
    "no-schedule": "tick.none",
    "tick-like-a-job": "tick.good.-.id-3",
    "vertical-tab": "run.good.-.a\x0bb",
    "form-feed": "run.\x0c",
    "no-utf-8": "run.g\udcff\udcfed.-.id-4",
    "no-utf-8-tick": "tick.\udcff",
    "odd-task": "run.go\\od.-.id-5",
}

TICKS = {
    "t-nonsense": b"{nonsense",
    "t-deep": b'{"zz":' + b"[" * 50_000,
    "t-missing": b"{}",
    "t-pattern": b'{"name":"t","queue":"default","task":"good","pattern":"@every 1e999s"}',
    "t-pattern-word": b'{"name":"t","queue":"default","task":"good","pattern":"@every xs"}',
    "t-pattern-zero": b'{"name":"t","queue":"default","task":"good","pattern":"@every 0s"}',
    "t-cron": b'{"name":"t","queue":"default","task":"good","pattern":"99 99 * * * *"}',
    "t-zone": b'{"name":"t","queue":"default","task":"good","pattern":"* * * * * *","zone":"../etc/passwd"}',
    "t-queue": b'{"name":"t","queue":"other","task":"good","pattern":"* * * * * *"}',
    "t-bad-queue": b'{"name":"t","queue":"a b.>","task":"good","pattern":"* * * * * *"}',
    "t-name": b'{"name":"other","queue":"default","task":"good","pattern":"* * * * * *"}',
    "t-task": b'{"name":"t","queue":"default","task":"a b","pattern":"* * * * * *"}',
    "t-key": b'{"name":"t","queue":"default","task":"good","key":"a.>","pattern":"* * * * * *"}',
    "t-jitter": b'{"name":"t","queue":"default","task":"good","jitter":1e300,"pattern":"* * * * * *"}',
    "t-expires": b'{"name":"t","queue":"default","task":"good","expires":1e300,"pattern":"* * * * * *"}',
    "t-meta": b'{"name":"t","queue":"default","task":"good","meta":{"timeout":1e300},"pattern":"* * * * * *"}',
}


async def _dead(app: Jetq, count: int, queue: str = "default") -> list[DeadEntry]:
    broker = await app.session.broker()
    entries: list[DeadEntry] = []
    try:
        async with asyncio.timeout(30):
            while len(entries := list(await broker.dead(queue))) < count:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass  # what is missing is told by who compares
    return entries


async def test_every_hostile_message_is_dead_lettered_once_with_its_bytes_and_good_jobs_run_between(
    nats_url: str, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    """Guarantee: no message, whoever wrote it, ends a worker, goes round in it, or is lost."""
    caplog.set_level(logging.INFO, "jetq.worker")
    app = fresh_app(nats_url)
    ran: list[int] = []

    @app.task(name="good", wait=0.0)
    async def good(n: int) -> int:
        ran.append(n)
        return n

    @app.task(name="loose")
    async def loose(v: Any) -> None:
        raise AssertionError("it ran")

    hostile: list[tuple[str, bytes, dict[str, bytes]]] = [
        *((f"run.good.-.{id}", body, {}) for id, body in STRICT_BODIES.items()),
        *((f"run.loose.-.{id}", body, {}) for id, body in LOOSE_BODIES.items()),
        *(
            (f"run.good.-.{id.replace('*', '-')}", b'{"n":-%d}' % (number + 1), {"Jetq": header})
            for number, (id, header) in enumerate(JETQ_HEADERS.items())
        ),
        *((subject, b"stray " + id.encode(), {}) for id, subject in STRAY_SUBJECTS.items()),
        # Without the time of its next: the server refuses one that says it and does not come from a schedule (10212).
        *(("tick.t", b"tick " + id.encode(), {"Jetq_Schedule": header}) for id, header in TICKS.items()),
    ]
    async with working(app, concurrency=4):
        broker = await app.session.broker()
        await broker.setup("default")
        wire = await Wire.open(nats_url)
        for number, (subject, body, headers) in enumerate(hostile):
            wire.publish(f"{app.settings.namespace}.default.{subject}", body, **headers)
            wire.publish(f"{app.settings.namespace}.default.run.good.-.good-{number}", b'{"n":%d}' % number)
        odd = {  # odd, and no reason not to run: it names no message that stands, or is a text of no use
            "digits": {"Jetq_Replaces": b"9" * 5000},
            "word": {"Jetq_Replaces": b"abc"},
            "arabic": {"Jetq_Replaces": "\N{ARABIC-INDIC DIGIT ONE}".encode()},
            "bad-utf-8": {"Jetq": b'{"schedule":"\xff\xfe"}'},
        }
        for place, (id, headers) in enumerate(odd.items()):
            subject = f"{app.settings.namespace}.default.run.good.-.{id}"
            wire.publish(subject, b'{"n":%d}' % (len(hostile) + place), **headers)
        await wire.close()

        entries = await _dead(app, len(hostile))
        assert sorted(entry.body[:60] for entry in entries) == sorted(body[:60] for _, body, _ in hostile)
        assert sorted(entry.body for entry in entries) == sorted(body for _, body, _ in hostile)
        await until(lambda: len(ran) >= len(hostile) + len(odd))
        assert sorted(ran) == list(range(len(hostile) + len(odd)))
        info = next(info for info in await broker.queues() if info.name == "default")
        assert (info.ready, info.running, info.scheduled, info.dead) == (0, 0, 0, len(hostile))
        assert {entry.letter.reason for entry in entries} == {"undecodable", "bad-arguments"}
        assert {entry.letter.count for entry in entries} == {1}
    assert not [record for record in caplog.records if "trying again" in record.message or record.exc_info]


async def test_a_message_filled_to_its_last_byte_is_dead_with_its_bytes(nats_url: str) -> None:
    """There is no room for a letter beside it, and for less and less of one."""
    app = fresh_app(nats_url)

    @app.task(name="good")
    async def good(n: int) -> None:
        raise AssertionError("it ran")

    async with working(app):
        broker = await app.session.broker()
        await broker.setup("default")
        wire = await Wire.open(nats_url)
        sizes = [1024 * 1024 - left for left in (0, 1, 50, 500, 1500, 30_000)]
        for size in sizes:
            wire.publish(f"{app.settings.namespace}.default.run.good.-.full-{size}", bytes(size))
        await wire.close()
        entries = await _dead(app, len(sizes))
        assert sorted(len(entry.body) for entry in entries) == sorted(sizes)
        assert {(entry.letter.id, entry.letter.task) for entry in entries} == {
            (f"full-{size}", "good") for size in sizes
        }
        await settled(app)


async def test_what_is_no_job_is_dead_also_when_its_worker_stops_before_its_turn(nats_url: str) -> None:
    """It cannot be given back: what stood on a subject that is no UTF-8 would not be found there."""
    app = fresh_app(nats_url)
    began, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="long", queue="long")
    async def long() -> None:
        began.set()
        await may_end.wait()

    async with working(app, queues=["long", "strays"], concurrency=1) as worker:
        await long.adelay()
        await began.wait()
        wire = await Wire.open(nats_url)
        wire.publish(f"{app.settings.namespace}.strays.run.\udcff", b"stray")
        await wire.close()
        await until(lambda: worker.running == 2)
        worker.stop()
        entries = await _dead(app, 1, "strays")
        assert [entry.body for entry in entries] == [b"stray"]
        may_end.set()


async def test_a_message_that_says_it_succeeds_another_job_does_not_remove_that(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="good")
    async def good(n: int) -> int:
        return n

    async with working(app):
        waits = await good.options(delay=3600).adelay(1)
        broker = await app.session.broker()
        found = await broker.find("default", waits.id)
        assert found is not None
        wire = await Wire.open(nats_url)
        sequence = b"%d" % found.delivery.sequence
        wire.publish(f"{app.settings.namespace}.default.run.good.-.thief", b'{"n":2}', Jetq_Replaces=sequence)
        await wire.close()
        assert await app.job("thief").aresult(timeout=10) == 2
        assert await waits.astatus() == "scheduled"


async def test_arguments_as_deep_as_allowed_run(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="loose")
    async def loose(v: Any) -> int:
        depth = 0
        while v:
            (v,) = v
            depth += 1
        return depth

    async with working(app):
        broker = await app.session.broker()
        await broker.setup("default")
        wire = await Wire.open(nats_url)
        body = b'{"v":' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}"
        wire.publish(f"{app.settings.namespace}.default.run.loose.-.deep", body)
        await wire.close()
        assert await app.job("deep").aresult(timeout=10) == DEEPEST - 2


RECORD = b'{"id":"x","state":"succeeded","task":"answers","queue":"default","attempt":1,"sequence":1,"at":1.0'

RESULTS = {
    "nonsense": b"{nonsense",
    "binary": b"\xff\x00",
    "deep": b'{"zz":' + DEEP,
    "deep-value": RECORD + b',"value":' + DEEP + b"}",
    "deep-balanced": RECORD + b',"value":' + BALANCED + b"}",
    "wrong": RECORD + b',"value":"text"}',
    "bad-utf-8": RECORD + b',"value":"\xff"}',
    "huge-int": RECORD + b',"value":1' + b"0" * 5000 + b"}",
    "huge-float": RECORD + b',"value":1e999999}',
    "at": RECORD.replace(b"1.0", b"1e300") + b',"value":1}',
    "sealed": RECORD + b',"sealed":"!!"}',
    "magic": RECORD + b',"sealed":"/0pRMVMCazE="}',
}


@pytest.mark.parametrize("known", [True, False])
async def test_a_hostile_result_is_an_error_at_its_caller_and_nothing_more(nats_url: str, known: bool) -> None:
    app = fresh_app(nats_url)

    if known:

        @app.task(name="answers")
        async def answers(n: int) -> int:
            return n

    try:
        broker = await app.session.broker()
        await broker.setup("default")
        await broker.get_result("default", "none")
        await broker.put_result(_any_result(), 60)
        wire = await Wire.open(nats_url)
        for id, body in RESULTS.items():
            wire.publish(f"{app.settings.namespace}._result.{id}", body)
        await wire.close()
        for id in RESULTS:
            try:
                value = await app.job(id).aresult(timeout=0.2)
            except Exception as error:
                assert re.match(r"jetq\.errors\.", f"{type(error).__module__}."), (id, error)
            else:
                assert not known and id in ("wrong", "huge-int"), (id, str(value)[:80])
    finally:
        await app.session.aclose()


def _any_result() -> ResultRecord:
    return ResultRecord(id="y", state="succeeded", task="t", queue="default", attempt=1, sequence=1, at=1.0)

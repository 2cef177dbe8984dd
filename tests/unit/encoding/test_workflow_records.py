"""Records of workflows are read as they were written, and whatever else stands there is refused in words."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from jetq import BadPayload, NewerVersion
from jetq.encoding.sealer import Sealer
from jetq.encoding.sealing import EncryptedPayloads, SignedPayloads
from jetq.encoding.workflows import (
    BadRecord,
    encode_closed,
    encode_ended,
    encode_failure,
    encode_plan,
    read_bodies,
    read_ended,
    read_failure,
    read_plan,
    write_bodies,
)
from jetq.model.job import Meta
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Edge, Plan, Step, StepCall
from jetq.model.workflows.records import Closed, Ended, Totals
from tests.unit.properties.examples import examples

STEPS = {
    "fetch": Step(call=StepCall("tests.fetch", "default", level="high", expires=5.0), members=3, many=True, window=2),
    "words": Step(
        (Edge("fetch", "each", (("page",), ("more", 0))),),
        StepCall("tests.words", "cpu", Raw(b'{"n":1}'), meta=Meta(max_attempts=7, timeout=None)),
        members=3,
        many=True,
        tolerates=True,
        instead=Raw(b"null"),
    ),
    "told": Step(call=StepCall("tests.tell", "default", Raw(b"{}")), callback="failure"),
}
PLAN = Plan(life="abc", value=(Edge("words", into=((),), settles=True),), steps=STEPS, deadline=12.5, begins=3.0)
CLOSED = Closed(life="abc", closed="succeeded", at=3.0, value=Raw(b"[1]"), steps={"a": Totals(3, 2, 1)})
PLAINLY = Sealer(None)
KEYS = {"k": b"1" * 32}
SEALERS = {"plain": PLAINLY, "signed": Sealer(SignedPayloads(KEYS)), "encrypted": Sealer(EncryptedPayloads(KEYS))}


@pytest.mark.parametrize("sealer", SEALERS)
def test_a_plan_is_read_as_it_was_written(sealer: str) -> None:
    assert read_plan(encode_plan(PLAN, "weekly", SEALERS[sealer]), "weekly", SEALERS[sealer]) == PLAN
    assert read_plan(encode_closed(CLOSED), "weekly", SEALERS[sealer]) == CLOSED


@pytest.mark.parametrize("sealer", ["signed", "encrypted"])
def test_a_sealed_plan_opens_nowhere_else_and_for_nobody_else(sealer: str) -> None:
    own, body = SEALERS[sealer], encode_plan(PLAN, "weekly", SEALERS[sealer])
    for workflow, reader in (("daily", own), ("weekly", Sealer(SignedPayloads({"k": b"2" * 32}))), ("weekly", PLAINLY)):
        with pytest.raises(BadPayload):
            read_plan(body, workflow, reader)
    with pytest.raises(BadPayload):
        read_plan(encode_plan(PLAN, "weekly", PLAINLY), "weekly", own)
    other_life = msgspec.json.encode({**msgspec.json.decode(body), "life": "abd"})
    with pytest.raises(BadPayload):
        read_plan(other_life, "weekly", own)
    if sealer == "encrypted":
        assert b"fetch" not in body


def test_each_byte_of_a_sealed_plan_counts() -> None:
    own = SEALERS["encrypted"]
    body = encode_plan(replace(PLAN, steps={"told": STEPS["words"]}, value=(Edge("told"),)), "weekly", own)
    start = body.index(b'"sealed":"') + len(b'"sealed":"')
    for at in range(start, len(body) - 2):
        flipped = bytes([body[at] ^ 1])
        if flipped == b"=" or body[at : at + 1] == b"=":
            continue
        with pytest.raises((BadPayload, BadRecord)):
            read_plan(body[:at] + flipped + body[at + 1 :], "weekly", own)


def test_a_plan_of_a_newer_jetq_is_told_apart() -> None:
    newer = msgspec.json.encode({"v": 3, "life": "abc", "anything": 1})
    with pytest.raises(NewerVersion, match="wire version 3"):
        read_plan(newer, "weekly", PLAINLY)


@given(st.binary(max_size=200) | st.builds(msgspec.json.encode, st.dictionaries(st.text(max_size=5), st.integers())))
@examples(300)
def test_anything_else_is_refused(body: bytes) -> None:
    for read in (lambda: read_plan(body, "w", PLAINLY), lambda: read_ended(body), lambda: read_failure(body)):
        with pytest.raises(BadRecord):
            read()


def test_a_plan_that_cannot_be_followed_is_refused() -> None:
    wrong = replace(PLAN, steps={**STEPS, "more": Step((Edge("nothing"),), StepCall("tests.a", "default"))})
    with pytest.raises(BadRecord, match="more: it cannot wait for 'nothing'"):
        read_plan(msgspec.json.encode(wrong), "w", PLAINLY)
    with pytest.raises(BadRecord, match="nested"):
        read_plan(b"[" * 1_000, "w", PLAINLY)


def test_ends_and_failures_are_read_as_they_were_written() -> None:
    for ended in (
        Ended(how="value", value=Raw(b"null")),
        Ended(how="value", sealed=b"x"),
        Ended(how="failed", step="a"),
    ):
        assert read_ended(encode_ended(ended)) == ended
    failure = Failure("fetch", 3, "timeout", "builtins.TimeoutError", "no answer")
    assert read_failure(encode_failure(failure)) == failure
    assert encode_failure(failure).startswith(b'{"jetq":"failure"')


@given(st.lists(st.sampled_from((10, 1_000, 200_000, 300_000)), max_size=8), st.integers(0, 5_000))
@examples(50)
def test_arguments_in_chunks_are_those_that_were_written(sizes: list[int], first: int) -> None:
    bodies = [b'{"a":"' + b"x" * size + b'"}' for size in sizes]
    found: dict[int, bytes] = {}
    for chunk in write_bodies(bodies, first):
        start, some = read_bodies(chunk)
        assert len(some) == 1 or sum(map(len, some)) <= 256 * 1024
        found |= dict(enumerate(some, start))
    assert found == dict(enumerate(bodies, first))

"""Names in subjects: whatever a user may call things, a subject has the tokens it should, and gives the names back."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from jetq.errors import DefinitionError
from jetq.jetstream.streams.subjects import Subjects, ack_fields, job_tokens, level_of, tick_of
from jetq.model.job import Level
from jetq.model.names import (
    NO_KEY,
    check_job_id,
    check_key,
    check_namespace,
    check_queue,
    check_schedule,
    check_task,
    key_of,
    key_token,
    keyed_id,
    new_job_id,
)
from tests.unit.properties.examples import examples

NASTY = st.text(st.sampled_from("ab0-_.:~=*>$ \t\r\n\x00\x0b\x85\xa0\u2028é\\/\ud800"), max_size=12)
ANY_TEXT = st.one_of(NASTY, st.text(max_size=300), st.sampled_from(["-", "", ".", "*", ">", "a.b", "jetq", "a" * 500]))

WORD = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
TASKS = st.lists(WORD, min_size=1, max_size=4).map(".".join)
PLAIN = st.from_regex(r"[a-z0-9-]{1,48}", fullmatch=True)
IDS = st.one_of(st.builds(new_job_id), st.from_regex(r"[A-Za-z0-9_:-]{1,96}", fullmatch=True))
KEYS = st.one_of(st.none(), st.text(min_size=1, max_size=80))
LEVELS = st.sampled_from(["normal", "high", "low"])

LEGAL = re.compile(r"[!-~]+(\.[!-~]+)*")
"""A subject that nothing can misread: printable ASCII without spaces, no empty token."""


def job_of(task: str, id: str, key: str | None) -> tuple[str, str, str]:
    """The names of a job as an enqueue makes them."""
    token = NO_KEY if key is None else key_token(key)
    return task, token, id if key is None else keyed_id(id, token)


@examples(200)
@given(PLAIN, PLAIN, TASKS, IDS, KEYS, LEVELS)
def test_a_jobs_names_come_back_from_its_subject(
    namespace: str, queue: str, task: str, id: str, key: str | None, level: Level
) -> None:
    names = Subjects(namespace)
    task, token, id = job_of(task, id, key)
    run = names.run(queue, task, token, id, level)
    for subject, kind in ((run, run.split(".")[2]), (names.later(queue, task, token, id), "later")):
        assert job_tokens(subject, 7) == (kind, task, token, id)
        assert LEGAL.fullmatch(subject) and subject.count(".") == 5
    assert level_of(run) == level
    assert key_of(id) == token
    assert check_job_id(id) == id
    assert _matches(names.by_id(queue, id), run) and _matches(names.anywhere(queue, task, token, id), run)


@examples(200)
@given(ANY_TEXT, ANY_TEXT)
def test_two_keys_never_share_a_token(one: str, other: str) -> None:
    if one and other:
        assert (key_token(one) == key_token(other)) == (one == other)
        assert key_token(one) == one or key_token(key_token(one)) != key_token(one)


@examples(300)
@given(ANY_TEXT)
def test_no_name_that_is_taken_makes_another_subject(name: str) -> None:
    """Guarantee: no queue, namespace, task, schedule, job or key can be called so that its subject reaches another."""
    names = Subjects("jetq")
    subjects: list[tuple[Callable[[str], str], Callable[[str], str], int]] = [
        (check_queue, lambda queue: names.run(queue, "t", "-", "i"), 6),
        (check_namespace, lambda namespace: Subjects(namespace).run("q", "t", "-", "i"), 6),
        (check_task, lambda task: names.run("q", task, "-", "i"), 6),
        (check_task, lambda task: names.dead("q", task, "i"), 5),
        (check_job_id, lambda id: names.run("q", "t", key_of(id), id), 6),
        (check_job_id, names.result, 3),
        (check_job_id, lambda id: names.start("q", id), 5),
        (check_schedule, lambda schedule: names.tick("q", schedule), 4),
        (check_key, lambda key: names.run("q", "t", key_token(key), "i"), 6),
    ]
    for check, subject_of, tokens in subjects:
        try:
            legal = check(name)
        except DefinitionError:
            continue
        subject = subject_of(legal)
        assert subject.count(".") == tokens - 1, check
        assert LEGAL.fullmatch(subject) and "*" not in subject and ">" not in subject, check


JOB = ("jetq", "q", "run", "a:b", "-", "id")
ONE_ODD = st.tuples(st.integers(0, 5), NASTY).map(lambda odd: ".".join([*JOB[: odd[0]], odd[1], *JOB[odd[0] + 1 :]]))
ODD = st.lists(st.one_of(ANY_TEXT, WORD, st.sampled_from(["run", "tick", "-", "jetq"])), max_size=8).map(".".join)


@examples(300)
@given(st.one_of(ONE_ODD, ODD))
def test_whatever_stands_on_a_subject_has_names_that_reach_no_further(subject: str) -> None:
    names = Subjects("jetq")
    kind, task, key, id = job_tokens(subject, 7)
    assert (kind, key, id) == ("", NO_KEY, "stray-7") if not task else subject.split(".")[2] == kind
    for made in (names.dead("q", task, id), names.result(id), names.start("q", id), names.by_id("q", id)):
        assert LEGAL.fullmatch(made) and ">" not in made
    assert names.dead("q", task, id).count(".") == 4
    if task:
        assert LEGAL.fullmatch(names.later("q", task, key, id)) and names.later("q", task, key, id).count(".") == 5


@examples(100)
@given(st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,20}){0,3}", fullmatch=True))
def test_a_schedules_name_comes_back_from_its_ticks(schedule: str) -> None:
    assert tick_of(Subjects("jetq").tick("q", schedule)) == schedule


@examples(100)
@given(st.integers(1, 2**40), st.integers(1, 2**60), st.integers(0, 2**62), st.integers(0, 2**40), st.booleans())
def test_an_ack_subject_is_read_in_both_forms(count: int, sequence: int, at: int, pending: int, long: bool) -> None:
    place = "_.ACCOUNT.STREAM.consumer" if long else "STREAM.consumer"
    reply = f"$JS.ACK.{place}.{count}.{sequence}.9.{at}.{pending}" + (".token" if long else "")
    assert ack_fields(reply) == (count, sequence, at, pending)


def _matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))

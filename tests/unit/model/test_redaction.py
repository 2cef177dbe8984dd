"""What counts as secret, how it is hidden in values, and how it is taken out of texts."""

from __future__ import annotations

import dataclasses
import sys
import traceback
import typing
from collections.abc import Callable
from typing import Annotated, Any, Generic, NamedTuple, NewType, Required, TypedDict, TypeVar
from urllib.parse import quote

import msgspec
import pytest
from msgspec import Struct

from jetq import ArgumentError, DefinitionError, Jetq, Schedule, Secret
from jetq.encoding.failures import capture
from jetq.encoding.signature import Signature
from jetq.model.cell import Cell
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import Delivery, JobRecord, StoredJob
from jetq.model.outcome import Dead, Retrying, Succeeded
from jetq.model.redaction import is_secret_name, redacted, redactor, secret_texts
from jetq.model.result import ResultRecord
from jetq.testing.enqueued import EnqueuedJob, no_such_job

CANARY = "c4n4ry-of-the-tests"
T = TypeVar("T")
Pin = NewType("Pin", str)


class Login(Struct, rename="camel"):
    user: str
    pin_code: Secret[str]
    password: str = ""


class Refusing(Struct):
    pin: Secret[str]

    def __post_init__(self) -> None:
        if self.pin != "fine":
            raise ValueError(f"{self.pin} is not fine")


@dataclasses.dataclass
class Card:
    holder: str
    number: Secret[int] | None


class Box(Struct, Generic[T]):
    item: T


class Pair(NamedTuple):
    name: str
    value: Secret[str]


class Row(Struct, array_like=True, tag="row"):
    name: str
    value: Secret[str]


class Options(TypedDict):
    pin: Required[Secret[str]]


class Many(Struct, Generic[T]):
    items: list[T]
    one: T | None


class SecretBox(Box[Secret[str]]):
    more: str


@dataclasses.dataclass
class Rows(Generic[T]):
    items: dict[str, list[T]]


@dataclasses.dataclass
class Both(Rows[Secret[str]], Card): ...


class Entry(TypedDict, Generic[T]):
    item: T


class SecretEntry(Entry[Secret[str]]):
    other: str


Hushed = TypeVar("Hushed", bound=Secret[str])


class HushedBox(Struct, Generic[Hushed]):
    item: Hushed


class Node(Struct):
    pin: Secret[str]
    next: Node | None = None


def everything(
    plain: str,
    login: Login,
    cards: list[Card],
    *more: Secret[str],
    pin: Secret[str] | None = None,
    typed: Secret[Pin] | None = None,
    box: Box[Secret[str]] | None = None,
    pair: Pair | None = None,
    row: Row | None = None,
    options: Options | None = None,
    node: Node | None = None,
    raw: Secret[bytes] = b"",
    by_name: dict[str, Secret[str]] | None = None,
    both: tuple[str, Secret[str]] | None = None,
    nested: Annotated[Secret[str], "more"] = "",
    anything: Any = None,
    **others: Secret[str],
) -> None: ...


@pytest.mark.parametrize(
    "name",
    ["password", "PASSWORD", "db_password", "passwordHash", "accessToken", "tokens", "X-Api-Key", "apikey", "APIKey",
     "private_key", "privateKeyPEM", "Set-Cookie", "Proxy-Authorization", "client.secret", "credentials", "secret2"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokenize", "secretary", "key", "customer_key", "author", "compass", "turkey_api", ""]
)
def test_names_that_only_look_like_one(name: str) -> None:
    assert not is_secret_name(name)


def test_what_is_annotated_is_hidden_wherever_it_stands_and_arrives_as_it_is() -> None:
    signature = Signature(everything, "t.everything")
    secrets = [f"{CANARY}-{place}" for place in range(14)]
    body = signature.encode(
        ("shown", Login("bob", secrets[0], secrets[1]), [Card("bob", 123456789)], secrets[2]),
        {
            "pin": secrets[3], "typed": Pin(secrets[4]), "box": Box(secrets[5]), "pair": Pair("shown", secrets[6]),
            "row": Row("shown", secrets[7]), "options": {"pin": secrets[8]}, "node": Node("x" * 9, Node(secrets[9])),
            "raw": secrets[10].encode(), "by_name": {"shown": secrets[11]}, "both": ("shown", secrets[12]),
            "nested": secrets[13], "anything": [{"api_key": secrets[0]}], "other": secrets[1],
        },
    )  # fmt: skip
    stored = msgspec.json.decode(body)
    shown = msgspec.json.encode(redacted(stored, signature.annotations)).decode()
    assert CANARY not in shown and "123456789" not in shown and stored["raw"] not in shown and "x" * 9 not in shown
    assert shown.count('"shown"') == 5 and shown.count('"bob"') == 2
    args, kwargs = signature.decode(body)
    assert args[1] == Login("bob", secrets[0], secrets[1]) and type(kwargs["pin"]) is str
    assert set(secrets) <= secret_texts(stored, signature.annotations)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Many[Secret[str]], {"items": [CANARY], "one": CANARY}),
        (SecretBox, {"item": CANARY, "more": ""}),
        (list[SecretBox], [{"item": CANARY, "more": ""}]),
        (Rows[Secret[str]], {"items": {"a": [CANARY]}}),
        (Rows[Box[Secret[str]]], {"items": {"a": [{"item": CANARY}]}}),
        (Both, {"items": {"a": [CANARY]}, "holder": "bob", "number": None}),
        (Entry[Secret[str]], {"item": CANARY}),
        (SecretEntry, {"item": CANARY, "other": ""}),
        (HushedBox, {"item": CANARY}),
    ],
)  # fmt: skip
def test_what_a_type_parameter_stands_for_is_hidden(kind: Any, value: Any) -> None:
    msgspec.convert(value, kind)
    assert CANARY not in str(redacted({"x": value}, {"x": kind}))
    assert CANARY in secret_texts({"x": value}, {"x": kind})


def test_what_a_type_parameter_does_not_stand_for_is_shown() -> None:
    assert redacted({"x": {"item": CANARY, "more": "a"}}, {"x": SecretBox}) == {"x": {"item": "***", "more": "a"}}
    assert redacted({"x": {"items": ["a"], "one": "b"}}, {"x": Many[str]}) == {"x": {"items": ["a"], "one": "b"}}


NEWER = {
    (3, 12): """
type Maybe[X] = X | None
type Words = list[Secret[str]]
class Boxed[X](Struct):
    items: list[X]
class Filled(Boxed[Secret[str]]): ...
KINDS = [(Maybe[Secret[str]], CANARY), (list[Maybe[Secret[str]]], [CANARY]), (Words, [CANARY]),
         (Boxed[Secret[str]], {"items": [CANARY]}), (Filled, {"items": [CANARY]})]
""",
    (3, 13): """
D = TypeVar("D", default=Secret[str])
class Default(Struct, Generic[D]):
    item: D
class Fixed(TypedDict):
    pin: ReadOnly[Secret[str]]
KINDS = [(Default, {"item": CANARY}), (Fixed, {"pin": CANARY})]
""",
    (3, 14): """
class Late(TypedDict):
    pin: Secret[str]
    unknown: NotThere
class Below(Late):
    more: str
KINDS = [(Late, {"pin": CANARY}), (Below, {"pin": CANARY})]
""",
}
"""Annotations that only newer Pythons have."""


@pytest.mark.parametrize("version", [each for each in NEWER if sys.version_info >= each])
def test_what_newer_pythons_can_annotate_is_hidden_too(version: tuple[int, int]) -> None:
    names: dict[str, Any] = {**vars(typing), **globals()}
    exec(compile(NEWER[version], "newer", "exec", dont_inherit=True), names)
    for kind, value in names["KINDS"]:
        assert CANARY not in str(redacted({"x": value}, {"x": kind})), kind
        assert CANARY in secret_texts({"x": value}, {"x": kind}), kind


def test_an_annotation_that_cannot_be_resolved_is_secret_if_it_says_so() -> None:
    def task(pin: Secret[str], order: NotThere) -> Secret[str]: ...  # type: ignore[name-defined,empty-body] # noqa: F821

    signature = Signature(task, "t.task")
    assert redacted({"pin": CANARY, "order": 1}, signature.annotations) == {"pin": "***", "order": 1}
    assert redacted({"result": CANARY}, {"result": signature.result_kind}) == {"result": "***"}


def test_names_alone_decide_without_annotations_at_any_depth() -> None:
    value = {"user": "bob", "a": [{"b": {"apiToken": {"x": 1}, "token": None}}], "password": CANARY}
    assert redacted(value) == {"user": "bob", "a": [{"b": {"apiToken": "***", "token": None}}], "password": "***"}


def test_what_is_too_deep_to_be_looked_through_is_hidden_as_a_whole() -> None:
    # Neither the stack of a Python nor that of a thread decides: 5,000 levels are too deep for some.
    for levels in (101, 5000):
        value: Any = {"password": CANARY}
        for _ in range(levels):
            value = [value]
        assert redacted({"x": value}) == "***"
        assert CANARY not in redactor(secret_texts({"x": value}))(f"refused {CANARY}")
    value = {"password": CANARY}
    for _ in range(98):
        value = [value]
    assert CANARY not in str(redacted({"x": value})) and "password" in str(redacted({"x": value}))


def test_what_contains_itself_is_secret_as_a_whole() -> None:
    value: list[Any] = [{"password": CANARY}]
    value.append(value)
    assert CANARY not in redactor(secret_texts({"x": value}))(f"refused {CANARY}")


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@dataclasses.dataclass
class Unset:
    password: str
    pin: Secret[str]
    other: Any = dataclasses.field(init=False)
    rude: Any = dataclasses.field(default_factory=Rude)


@pytest.mark.parametrize(
    "beside", [Rude(), {(1, 2): 3}, "\ud800", 10**5000, Unset("x", "y")], ids=["rude", "key", "text", "number", "unset"]
)
def test_a_secret_is_found_beside_what_has_no_json_form(beside: Any) -> None:
    hide = redactor(secret_texts({"x": {"password": CANARY, "beside": beside}}))
    assert CANARY not in hide(f"refused {CANARY}")
    hide = redactor(secret_texts({"x": [beside, Login("bob", CANARY)]}, {"x": list[Login]}))
    assert CANARY not in hide(f"refused {CANARY}")


def test_the_secrets_of_an_object_that_has_no_json_form_are_found() -> None:
    hide = redactor(secret_texts({"x": Unset("", CANARY)}, {"x": Unset}))
    assert CANARY not in hide(f"refused {CANARY}")
    hide = redactor(secret_texts({"x": Unset(CANARY, "")}, {}))
    assert CANARY not in hide(f"refused {CANARY}")


@pytest.mark.parametrize(
    "form",
    [str, repr, lambda s: msgspec.json.encode(s).decode(), lambda s: f"https://u:{quote(s)}@h"],
    ids=["as it is", "repr", "json", "url"],
)  # fmt: skip
def test_a_secret_is_found_in_its_escaped_forms(form: Callable[[str], str]) -> None:
    secret = 'pä\'s "quote"\\ & more/1'
    hide = redactor(secret_texts({"password": secret}))
    assert "more" not in hide(f"before {form(secret)} after")
    assert hide("before") == "before"


def test_the_lines_of_a_key_and_the_bytes_of_base64_are_secret_too() -> None:
    key = "-----BEGIN X-----\nMIIEpAIBAAKCAQEA\n-----END X-----\n"
    assert "MIIE" not in redactor(secret_texts({"private_key": key}))("  | MIIEpAIBAAKCAQEA")
    raw = b"\x00binary-canary"
    hide = redactor(secret_texts({"raw": raw}, {"raw": Secret[bytes]}))
    assert "canary" not in hide(f"cannot use {raw!r}")


def test_short_secrets_and_truth_values_do_not_blot_out_texts() -> None:
    hide = redactor(secret_texts({"password": "abc", "token": True, "secret": None}))
    assert hide("abc True None") == "abc True None"


def test_a_failure_has_no_secret_in_message_traceback_causes_notes_and_arguments() -> None:
    def fail() -> None:
        try:
            raise KeyError(f"first {CANARY}")
        except KeyError as error:
            error.add_note(f"note {CANARY}")
            raise ValueError(f"second {CANARY}", {"x": CANARY}) from error

    with pytest.raises(ValueError) as caught:
        fail()
    bare = capture(caught.value)
    assert CANARY in bare.message and bare.traceback.count(CANARY) >= 3 and bare.args is not None
    failure = capture(caught.value, redactor(frozenset({CANARY})))
    assert CANARY not in repr(failure) and "second ***" in failure.message and failure.args is None


def test_no_half_of_a_secret_is_left_where_a_text_is_cut() -> None:
    error = ValueError("x" * 970 + CANARY * 30 + "y" * 5000)
    failure = capture(error, redactor(frozenset({CANARY})))
    assert "c4n4ry" not in repr(failure) and "-tests" not in repr(failure)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.encode((CANARY, 5), {}),
        lambda s: s.encode((1, {CANARY: object()}), {}),
        lambda s: s.encode((1, "x"), {"c": Refusing}),
        lambda s: s.encode_json({"a": 1, "password": "xxxx", "c": {"pin": CANARY}}),
        lambda s: s.decode(msgspec.json.encode({"a": 1, "password": "xxxx", "c": {"pin": CANARY}})),
        lambda s: s.decode(msgspec.json.encode({"a": 1, "password": [CANARY]})),
    ],
)
def test_an_argument_error_names_the_type_and_not_the_value(call: Callable[[Signature], object]) -> None:
    def login(a: int, password: Secret[str], c: Refusing | None = None) -> None: ...

    with pytest.raises(ArgumentError) as caught:
        call(Signature(login, "t.login"))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert "password: Secret[str]" in caught.value.message or "cannot encode" in caught.value.message


def test_a_refusal_at_the_producer_hides_what_the_type_said() -> None:
    def login(c: Annotated[Refusing, "x"]) -> None: ...

    made = Refusing("fine")
    made.pin = CANARY
    with pytest.raises(ArgumentError) as caught:
        Signature(login, "t.login").encode((made,), {})
    assert "*** is not fine" in caught.value.message
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_defaults_of_secrets_are_not_shown() -> None:
    def login(user: str = "bob", password: str = "c4n4ry", pin: Secret[str] = "c4n4ry") -> None: ...

    assert Signature(login, "t").call_text == "t(user: str = 'bob', password: str = ..., pin: Secret[str] = ...)"


def test_a_key_cannot_be_made_of_a_secret() -> None:
    app = Jetq()
    with pytest.raises(DefinitionError, match="names a secret"):

        @app.task(name="one", key="user-{pin}")
        def one(pin: Secret[str]) -> None: ...

    with pytest.raises(DefinitionError, match="names a secret"):

        @app.task(name="two", key="user-{login[password]}")
        def two(login: dict[str, str]) -> None: ...


def test_reprs_tell_sizes_and_not_contents() -> None:
    app = Jetq(user="bob", password=CANARY)

    @app.task(name="login")
    def login(user: str, password: Secret[str]) -> None: ...

    body = login.signature.encode(("bob", CANARY), {})
    headers = {"Authorization": CANARY}
    delivery = Delivery("q", "t", "-", "1", body, headers, 1, 1, 0.0, 0.0, "", "")
    failure = Failure("E", "m")
    letter = DeadLetter("1", "t", "q", "-", "failed", failure, 1, 0.0, 0.0, "", 1, headers=headers)
    shown: list[object] = [
        app, app.settings, login, login.bind("bob", CANARY), delivery, letter, StoredJob(delivery, "queued"),
        JobRecord("1", "t", "q", body), DeadEntry(letter, body, 1), Cell("c", body, 1),
        Retrying(1.0, failure, body), Dead("failed", failure, body), Succeeded(body),
        ResultRecord("1", "succeeded", "t", "q", 1, 1, 0.0, value=msgspec.Raw(body)),
        Schedule(cron="* * * * *", arguments={"password": CANARY}),
    ]  # fmt: skip
    for each in shown:
        assert CANARY not in repr(each) + str(each), type(each)
        assert CANARY not in str(list(getattr(each, "__rich_repr__", list)())), type(each)
    assert f"body=<{len(body)} bytes>" in repr(login.bind("bob", CANARY))


def test_jobs_that_a_test_prints_hide_secrets_by_name() -> None:
    job = EnqueuedJob("1", "t", "q", {"user": "bob", "password": CANARY}, "queued", None, 1)
    assert CANARY not in no_such_job("t", {"token": CANARY}, [job]) + repr(job)
    assert "user='bob'" in str(job)

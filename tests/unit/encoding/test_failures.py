"""Exceptions as values: nothing that an exception does is in the way of its record."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq import errors
from jetq.encoding import failures
from jetq.encoding.failures import capture, in_a_line, revive
from jetq.errors import RateLimited, Reject, Retry, Snooze
from jetq.model.failure import Failure

encode = msgspec.json.encode


class Custom(Exception):
    """What this module raises: it has one class for `revive` to find."""


def raised(error: BaseException) -> BaseException:
    """`error` with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def size(value: object) -> int:
    return len(encode(value))


# --- capture


def test_an_exception_is_its_type_message_traceback_and_args() -> None:
    failure = capture(raised(Custom("no such mailbox", 550)))
    assert failure.type == f"{__name__}.Custom"
    assert failure.message == "('no such mailbox', 550)"
    assert failure.args == ("no such mailbox", 550)
    assert "in raised\n    raise error\n" in failure.traceback
    assert failure.traceback.rstrip().endswith("Custom: ('no such mailbox', 550)")


def test_a_builtin_is_named_with_its_module() -> None:
    assert capture(ValueError("x")).type == "builtins.ValueError"


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class StrIsNoStr(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class ArgsRaise(Exception):
    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        raise RuntimeError("no args")


class CauseRaises(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no cause")


class TracebackRaises(Exception):
    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no traceback")


class EqualsAll:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class EvilText(str):
    def __len__(self) -> int:
        return 0

    def __getitem__(self, key: object) -> str:
        raise RuntimeError("no slices")

    def encode(self, *args: object) -> bytes:
        raise RuntimeError("no bytes")


class EvilStr(Exception):
    def __str__(self) -> str:
        return EvilText("evil " * 1000)


class NamelessMeta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")


class Nameless(Exception, metaclass=NamelessMeta):
    pass


def cyclic() -> list[object]:
    cycle: list[object] = []
    cycle.append(cycle)
    return cycle


def chained(length: int) -> BaseException:
    error: BaseException = ValueError("the root")
    for number in range(length):
        outer = RuntimeError(f"link {number}")
        outer.__cause__ = error
        error = raised(outer)
    return error


def self_caused() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return raised(first)


def noted() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = 5  # type: ignore[assignment]
    return error


def recursed() -> BaseException:
    def descend(depth: int) -> None:
        ascend(depth + 1)

    def ascend(depth: int) -> None:
        descend(depth)

    try:
        descend(0)
    except RecursionError as error:
        return error
    raise AssertionError("no end of recursion")


def nested(depth: int) -> BaseException:
    error: Exception = ValueError("at the bottom")
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


def shared() -> BaseException:
    """A group of 2 ** 64 exceptions, for whoever does not look which it has seen."""
    error: Exception = ValueError("at the bottom")
    for _ in range(64):
        error = ExceptionGroup("g", [error, error])
    return error


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "str raises": StrRaises,
    "str exits": StrExits,
    "str is no str": StrIsNoStr,
    "str of a subclass": EvilStr,
    "args raise": ArgsRaise,
    "cause raises": CauseRaises,
    "traceback raises": TracebackRaises,
    "class without a name": Nameless,
    "10 MB": lambda: ValueError("x" * 10_000_000),
    "10 MB of lines": lambda: ValueError("x\n" * 5_000_000),
    "surrogates": lambda: ValueError("\ud800\udfff" * 2000),
    "zero bytes": lambda: ValueError("\x00" * 5000),
    "cyclic args": lambda: ValueError(cyclic()),
    "args equal to all": lambda: ValueError(EqualsAll()),
    "long chain": lambda: chained(500),
    "cycle of causes": self_caused,
    "bad notes": noted,
    "group": lambda: ExceptionGroup("many", [ValueError(str(n)) for n in range(500)]),
    "huge group": lambda: BaseExceptionGroup("many", [raised(ValueError(str(n))) for n in range(200_000)]),
    "groups that share what they hold": shared,
    "deep groups": lambda: nested(2_000),
    "group of groups": lambda: BaseExceptionGroup("o", [ExceptionGroup("i", [StrRaises()]), raised(KeyError("k"))]),
    "recursion": recursed,
    "a long type of many lines": lambda: type("Bad\nName" * 100, (Exception,), {})("x"),
    "system exit": lambda: SystemExit(2),
    "keyboard interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "syntax error": lambda: SyntaxError("bad", ("f.py", 10**9, -5, "\ud800", None, None)),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_every_exception_has_a_small_record(make: Callable[[], BaseException]) -> None:
    """Guarantee: an exception cannot keep its job from being recorded."""
    error = make()
    failure = capture(error if error.__class__ is TracebackRaises else raised(error))
    assert len(failure.type) <= 200 and failure.type.isprintable()
    assert len(failure.message) <= 2_000
    assert len(failure.traceback) <= 16_000
    assert failure.traceback
    assert msgspec.json.decode(encode(failure), type=Failure) == failure
    assert isinstance(revive(failure), Exception)
    for text in (failure.type, failure.message, failure.traceback):
        assert type(text) is str
        text.encode()


def test_a_group_says_what_it_holds() -> None:
    held = [ValueError("order 17 has no address"), ExceptionGroup("in", [KeyError("x"), Custom("a"), StopIteration()])]
    failure = capture(ExceptionGroup("unhandled errors in a TaskGroup", held))
    own = f"{Custom.__module__}.Custom"
    assert failure.type == "builtins.ExceptionGroup"
    assert failure.message == f"ValueError: order 17 has no address; KeyError: 'x'; {own}: a; StopIteration"
    many = capture(ExceptionGroup("many", [ValueError(str(number)) for number in range(1_234)]))
    assert many.message.startswith("ValueError: 0; ValueError: 1; ")
    assert many.message.endswith("ValueError: 9; and 1,224 more")


def test_what_a_group_holds_is_hidden_before_it_is_cut() -> None:
    group = ExceptionGroup("g", [ValueError("x" * 995 + "s3cret"), ValueError("s3cret" + "y" * 2_000)])
    assert "s3c" not in capture(group, lambda text: text.replace("s3cret", "***")).message


def test_steering_exceptions_cross_a_pickle_and_a_copy_as_they_are() -> None:
    class Odd(Snooze):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one + two)

    for error in (Snooze(7), RateLimited(8), Retry(3, arguments={"a": 1}, reason="b"), Retry(), Reject("no")):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (type(again), again.args, vars(again)) == (type(error), error.args, vars(error))
    assert copy.copy(Odd(1, 2)).after == 3.0


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("no such order", "ValueError: no such order"),
        ("", "ValueError"),
        ("two\nlines\r\n  and\u2028a\x0bthird.", "ValueError: two lines and a third"),
        ("\x1b[31mred\x00", "ValueError: ?[31mred?"),
        ("x" * 300, f"ValueError: {'x' * 300}"),
        ("x" * 301, f"ValueError: {'x' * 300}..."),
    ],
    ids=["plain", "empty", "lines", "controls", "long", "too long"],
)
def test_a_failure_takes_one_line_of_a_log(message: str, line: str) -> None:
    assert in_a_line(Failure(type="builtins.ValueError", message=message)) == line
    assert in_a_line(Failure(type="app.errors.Gone", message="a")) == "app.errors.Gone: a"


def test_a_text_that_raises_says_so() -> None:
    assert capture(StrRaises()).message == "<its text raises builtins.RuntimeError>"


def test_a_cut_message_keeps_its_ends_and_says_how_much_is_missing() -> None:
    message = capture(ValueError("a" * 3000 + "b" * 3000)).message
    assert message.startswith("aaa") and message.endswith("bbb")
    assert "4,040 characters cut" in message


def test_a_cut_traceback_keeps_root_and_end() -> None:
    trace = capture(chained(500)).traceback
    assert "ValueError: the root" in trace
    assert "RuntimeError: link 499" in trace
    assert "characters cut" in trace


def test_a_huge_message_does_not_cost_the_frames() -> None:
    trace = capture(raised(ValueError("x" * 1_000_000))).traceback
    assert "in raised\n" in trace


def traceback_through(file: str) -> str:
    """The captured traceback of an exception that user code raises when `file` calls it."""

    def user_code() -> None:
        raise Custom("here")

    frame: dict[str, Any] = {}
    exec(compile("def call(fn): fn()", file, "exec"), frame)
    try:
        frame["call"](user_code)
    except Custom as error:
        assert error.__traceback__ is not None
        trace = capture(error.with_traceback(error.__traceback__.tb_next)).traceback
    assert "in user_code" in trace
    return trace


def test_frames_of_jetq_at_the_top_are_left_out() -> None:
    assert failures.__file__ not in traceback_through(failures.__file__)


def test_a_neighbour_package_is_not_taken_for_jetq() -> None:
    neighbour = failures.__file__.replace("/jetq/encoding/failures.py", "/jetq_email/tasks.py")
    assert neighbour in traceback_through(neighbour)


def test_frames_of_jetq_stay_if_there_are_no_others() -> None:
    try:
        failures._cut(5, 5)  # type: ignore[arg-type]
    except TypeError as error:
        assert error.__traceback__ is not None
        assert "in _cut" in capture(error.with_traceback(error.__traceback__.tb_next)).traceback


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        ((), ()),
        ((1, 2.5, "x", True, None), (1, 2.5, "x", True, None)),
        (([1, {"a": [None]}],), ([1, {"a": [None]}],)),
        ((2**70,), (2**70,)),
        ((float("nan"),), None),
        (((1, 2),), None),
        (({1: 2},), None),
        ((b"x",), None),
        (({1, 2},), None),
        ((Point(1),), None),
        (("x" * 5000,), None),
        (("\ud800",), None),
        ((object(),), None),
        ((Level.HIGH,), (3,)),
    ],
)
def test_args_travel_if_json_gives_them_back(args: tuple[Any, ...], kept: tuple[Any, ...] | None) -> None:
    assert capture(Exception(*args)).args == kept


@given(st.text(), st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none())))
def test_any_message_and_args_survive_the_journey(message: str, args: list[Any]) -> None:
    for error in (Custom(message), Custom(*args)):
        failure = capture(error)
        assert msgspec.json.decode(encode(failure), type=Failure) == failure
        assert isinstance(revive(failure), Custom | errors.TaskFailed)

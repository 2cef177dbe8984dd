"""Words of the command line become arguments: by JSON, by annotation, by place and by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import msgspec
import pytest

from jetq.cli.arguments import fit, read_words, without_signature
from jetq.cli.exit import Failed
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError

Zip = NewType("Zip", str)


class Point(msgspec.Struct):
    x: int
    y: int = 0


def arguments(fn: Callable[..., Any], *words: str, document: str | None = None) -> dict[str, Any]:
    signature = Signature(fn, "t.fn")
    return fit(read_words(words, document), signature, list(inspect.signature(fn).parameters.values()))


def first_argument(kind: Any, word: str) -> Any:
    def fn(x: Any) -> None: ...

    fn.__annotations__["x"] = kind
    return arguments(fn, word)["x"]


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (int, "2", 2),
        (int, "-2", -2),
        (int, "three", "three"),
        (int, "2.5", 2.5),
        (float, "1e3", 1000.0),
        (bool, "true", True),
        (str, "01234", "01234"),
        (str, "true", "true"),
        (str, '"quoted"', '"quoted"'),
        (str, "null", "null"),
        (Zip, "01234", "01234"),
        (Annotated[str, "a zip code"], "7", "7"),
        (str | None, "null", None),
        (str | None, "3", "3"),
        (int | str, "3", 3),
        (int | str, "x", "x"),
        (Path | None, "7", "7"),
        (Literal["1", "2"], "1", "1"),
        (Literal[1, 2], "1", 1),
        (Decimal, "1.10", "1.10"),
        (bytes, "1234", "1234"),
        (Path, "7", "7"),
        (UUID, "12345678123456781234567812345678", "12345678123456781234567812345678"),
        (datetime, "2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        (list[int], "[1, 2]", [1, 2]),
        (list[str], "a", "a"),
        (Point, '{"x": 1}', {"x": 1}),
        (Any, "3", 3),
        (Any, "three", "three"),
    ],
)
def test_a_word_is_json_or_text_as_the_annotation_wants(kind: Any, word: str, value: Any) -> None:
    read = first_argument(kind, word)
    assert (read, type(read)) == (value, type(value))


def test_by_place_by_name_and_by_document() -> None:
    def fn(a: int, b: str, *, c_d: float, e: list[int]) -> None: ...

    given = arguments(fn, "1", "2", "--c-d=0.5", document='{"e": [3]}')
    assert given == {"a": 1, "b": "2", "c_d": 0.5, "e": [3]}
    assert arguments(fn, "--b", "x", "1", "--c_d", "2") == {"a": 1, "b": "x", "c_d": 2}


def test_variadic_parameters_are_an_array_and_an_object() -> None:
    def fn(a: int, *rest: int, **options: str) -> None: ...

    assert arguments(fn, "1", "2", "3", "--colour", "4") == {"a": 1, "rest": [2, 3], "options": {"colour": "4"}}


def test_a_bare_flag_is_true_where_that_can_be() -> None:
    def fn(force: bool = False, name: str = "") -> None: ...

    assert arguments(fn, "--force") == {"force": True}
    assert arguments(fn, "--force", "--name", "x") == {"force": True, "name": "x"}
    with pytest.raises(Failed, match="--name needs a value"):
        arguments(fn, "--name")


@pytest.mark.parametrize(
    ("words", "document", "message"),
    [
        (["1", "2"], None, r"t\.fn\(a: int\): takes 1 positional arguments, got 2"),
        (["--b", "1"], None, r"t\.fn\(a: int\): got an unexpected argument 'b'"),
        (["1", "--a", "1"], None, "multiple values for argument 'a'"),
        (["1"], '{"a": 1}', "multiple values for argument 'a'"),
    ],
)
def test_what_has_no_parameter_is_an_argument_error(words: list[str], document: str | None, message: str) -> None:
    def fn(a: int) -> None: ...

    fn.__annotations__["a"] = int
    with pytest.raises(ArgumentError, match=message):
        arguments(fn, *words, document=document)


@pytest.mark.parametrize("document", ["[1]", "{", "3", "{'a': 1}"])
def test_a_document_is_a_json_object(document: str) -> None:
    with pytest.raises(Failed, match="--json: not a JSON object"):
        read_words([], document)


def test_a_name_stands_once() -> None:
    with pytest.raises(Failed, match="--a is given twice"):
        read_words(["--a", "1", "--a=2"], None)


def test_without_the_code_arguments_need_names() -> None:
    assert without_signature(read_words(["--n", "3", "--s", "x", "--f"], '{"d": 1}'), "tasks.add") == {
        "n": 3,
        "s": "x",
        "f": True,
        "d": 1,
    }
    with pytest.raises(
        Failed, match=r"the code of tasks\.add is not here, so its arguments need their names"
    ) as caught:
        without_signature(read_words(["3"], None), "tasks.add")
    assert "run jetq where its module can be imported" in (caught.value.hint or "")
    with pytest.raises(Failed, match="the code of add is not here") as caught:
        without_signature(read_words(["3"], None), "add")
    assert "by its whole name, as tasks.add" in (caught.value.hint or "")


@pytest.mark.parametrize("words", [["x=2", "3"], ["2", "y=3"]])
def test_a_name_and_a_value_with_an_equals_sign_are_not_taken_for_text(words: list[str]) -> None:
    def note(x: str, y: str) -> None: ...

    with pytest.raises(Failed, match=r"an argument by name is --(x|y) VALUE"):
        arguments(note, *words)
    assert arguments(note, "z=1", "--y", "y=3") == {"x": "z=1", "y": "y=3"}

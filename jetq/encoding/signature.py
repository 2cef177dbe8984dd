"""A task's signature as the schema of its calls: a call becomes a JSON object by parameter name, and a call again.

What `encode` lets through, `decode` accepts at the worker, and gives back as the annotated types:

* an annotated parameter takes values of its type, not their JSON text: a `datetime` takes no str, a `str` no UUID;
* where the type says nothing (no annotation, `Any`, a bare `dict` or `list`), only what JSON gives back unchanged is
  taken: None, bool, int, finite float, str, list, and dict with str keys. A set or tuple there is refused: annotate it;
* `*args` is an array and `**kwargs` an object, each under its own name; a parameter left out is not stored;
* a result is held to its annotation in the same way. Without annotation a tuple or set may come back as a list.
"""

from __future__ import annotations

import copy
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, DecodeError, Struct, ValidationError
from msgspec.inspect import DictType, StrType, Type, VarTupleType, type_info
from msgspec.structs import asdict, astuple

from jetq.encoding.json_text import TOO_DEEP, is_too_deep
from jetq.encoding.roundtrip import (
    Doubt,
    Types,
    advice,
    doubts,
    exposed,
    hides_fields,
    is_untyped,
    no_json,
    round_trip_difference,
    types_in,
    without_json,
)
from jetq.encoding.signature_text import explained, readable, unresolved
from jetq.encoding.type_hooks import checker, encode, from_json, known
from jetq.errors import ArgumentError, DefinitionError
from jetq.model.annotations import bind, check_names, hints_of, signature_of, signed_by, unexpected
from jetq.model.redaction import assumed, redactor, secret_texts

__all__ = ["Signature", "Undecodable", "encode_plain"]

_INSTEAD = "pass an id instead, and load the object in the task"
_TYPES = (
    "use a Struct, dataclass, TypedDict, pydantic model, Enum, datetime, UUID, Decimal, bytes, Path, or lists and "
    "dicts of those; jetq.register_type takes a class of your own"
)


class Undecodable(ValueError):
    """Bytes that are not JSON."""


class _Result(Struct):
    """How results are checked and decoded. `check` makes an object of `{"value": ...}`; None if any type is allowed."""

    check: Callable[[Mapping[str, Any]], Any] | None
    decode: Callable[[bytes], Any]
    vague: bool
    hides: bool
    doubts: tuple[Doubt, ...]


class Signature:
    """The parameters and the result of function `fn`, which is the task `name`.

    An annotation that names something not defined yet is resolved at first use. Raises DefinitionError for an
    annotation that cannot be resolved or has no JSON form.
    """

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self.name = name
        self._fn = signed_by(fn)
        self._signature = signature_of(fn)
        self._parameters = tuple(self._signature.parameters.values())
        check_names(name, self._signature.parameters)
        shown = readable(self._signature)
        self.call_text = f"{name}{shown.replace(return_annotation=inspect.Signature.empty)}"
        """The signature as it is written, without the result: `tasks.add(x: int, y: int)`."""
        self.text = f"{name}{shown}"
        """The signature as it is written: `tasks.add(x: int, y: int) -> int`."""
        returns = self._signature.return_annotation
        self.returns_none = returns in (None, "None", types.NoneType, typing.NoReturn, typing.Never)
        """Whether the function is annotated to return nothing."""

        kinds = [parameter.kind for parameter in self._parameters]
        by_place_or_name = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self._simple = all(kind in (by_place_or_name, inspect.Parameter.KEYWORD_ONLY) for kind in kinds)
        self._spread_by_place = inspect.Parameter.VAR_POSITIONAL in kinds
        self._by_place = all(kind is by_place_or_name for kind in kinds)
        self._may_omit = any(_optional(parameter) for parameter in self._parameters)
        self._bound = self._binder() if self._simple else None
        self._arguments: type[Struct] | None = None
        self._decode: Callable[[bytes], Any] = self._decode_first
        self._check: Callable[[Mapping[str, Any]], Any]
        self._doubts: tuple[tuple[str, Doubt], ...] = ()
        self._hides = False
        self._result: _Result | None = None
        self._annotations: dict[str, Any] | None = None
        with suppress(NameError):  # a name is defined further down, or never: `prepare` will tell
            self._compile()

    def prepare(self, *, result: bool = False) -> None:
        """Resolve annotations that could not be resolved at definition; with `result`, also the result's.

        Raises DefinitionError if an annotation still cannot be resolved, or has no JSON form.
        """
        try:
            if self._arguments is None:
                self._compile()
            if result and self._result is None:
                self._result = self._compile_result()
        except NameError as error:
            raise DefinitionError(
                f"{self.name}: {unresolved(self._fn)}: {error}",
                hint="import the name where it is there at run time too, not only under `if TYPE_CHECKING:`",
            ) from None

    def try_result(self) -> None:
        """Resolve the result's annotation if its names are defined. Raises DefinitionError if it has no JSON form."""
        with suppress(NameError):
            self._result = self._compile_result()

    def parameter_type(self, name: str) -> Any:
        """Return the resolved annotation of parameter `name`; Any without one. Raises KeyError for an unknown name."""
        parameter = self._signature.parameters[name]
        try:
            return self._kind(parameter)
        except NameError:
            self.prepare()
            return self._kind(parameter)

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations of a call's arguments by parameter name. As long as an annotation cannot be resolved, only
        whether each argument is secret."""
        if self._annotations is None:
            try:
                self._annotations = {each.name: _collected(each, self._kind(each)) for each in self._parameters}
            except (NameError, DefinitionError):
                return {each.name: assumed(each.annotation) for each in self._parameters}
        return self._annotations

    @property
    def result_kind(self) -> Any:
        """The annotation of the result. As long as it cannot be resolved, only whether the result is secret."""
        with suppress(NameError, DefinitionError):
            return self._hints.get("return", Any)
        return assumed(self._signature.return_annotation)

    def redact(self, text: str, values: Any) -> str:
        """Return `text` without what is secret in `values`: arguments by parameter name, as the task takes them or as
        JSON."""
        return redactor(secret_texts(values, self.annotations))(text)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(parameter.name for parameter in self._parameters)

    def values(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by parameter name, with defaults. Raises TypeError if the arguments do not
        fit."""
        bound = bind(self._signature, args, kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of the parameters that take positional arguments, in order, `*args` not among them."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(parameter.name for parameter in self._parameters if parameter.kind in kinds)

    # --- calls

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the JSON of a call. Raises ArgumentError for arguments that the worker would refuse or see changed."""
        return self._encode_values(self.bind(args, kwargs))

    def encode_some(self, values: Mapping[str, Any]) -> bytes:
        """Do what `encode` does for some arguments of a call, by parameter name; others may be missing."""
        return self._some._encode_values(dict(values))

    @cached_property
    def _some(self) -> Signature:
        """The same signature, where every parameter may be left out."""
        self.prepare()
        some = copy.copy(self)
        some._parameters = tuple(each if _optional(each) else each.replace(default=UNSET) for each in self._parameters)
        some._compile()
        return some

    def encode_json(self, arguments: Mapping[str, Any]) -> bytes:
        """Return the JSON of a call whose arguments are JSON values already: text for a datetime, an object for a
        Struct.

        Raises ArgumentError if the arguments do not fit.
        """
        body = encode_plain(self.call_text, arguments)
        self.check(body, arguments)
        return body

    def merge(self, body: bytes, arguments: Mapping[str, Any]) -> bytes:
        """Return the call `body` with other values for some of its parameters. The other values stay, also those that
        no caller may give.

        Raises ArgumentError as `encode` does, Undecodable for bytes that are no call.
        """
        for name in arguments:
            if name not in self._signature.parameters:
                raise ArgumentError(f"{self.call_text}: {unexpected(name, self._signature.parameters)}")
        values = {name: value for name, value in asdict(self._read(body)).items() if value is not UNSET}
        return self._encode_values({**values, **arguments}, given=arguments)

    def decode(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments of a stored call.

        Raises Undecodable for bytes that are not JSON, ArgumentError for arguments that do not fit the signature.
        """
        values = astuple(self._read(body))
        if self._by_place and not (self._may_omit and any(value is UNSET for value in values)):
            return values, {}
        return self._spread(values)

    def _encode_values(self, values: dict[str, Any], given: Iterable[str] | None = None) -> bytes:
        """Return the JSON of `values`. The values named in `given`, or all values, must be what a caller may give."""
        if self._arguments is None:
            self.prepare()
        assert self._arguments is not None
        try:
            arguments = self._check(values)
            body = encode(exposed(arguments) if self._hides else arguments)
            received = None if is_too_deep(body) else self._decode(body)
        except Exception as error:  # also what the __post_init__ of an argument's type raises
            self._refuse(error, values)
        if received is None:
            raise ArgumentError(f"{self.call_text}: {TOO_DEEP}")
        for name, doubt in self._doubts:
            if given is None or name in given:
                found = doubt(values.get(name), getattr(arguments, name), getattr(received, name))
                self._refuse_change(name, found, values)
        return body

    def _refuse_change(self, name: str, found: tuple[str, str] | None, values: Any) -> None:
        """Raise ArgumentError for parameter `name` if `found` says that a place in its value would change."""
        if found is not None:
            message = f"{name}{self.redact(found[0], values)}: {self.redact(found[1], values)}"
            raise ArgumentError(f"{self.call_text}: {message}", hint=advice(found[1]))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given arguments by parameter name. Raises ArgumentError. Defaults stay out, for the worker."""
        if self._bound is not None:
            try:
                values = asdict(self._bound(*args, **kwargs))
            except TypeError:
                pass  # `inspect` says better what is wrong
            else:
                if self._may_omit:
                    return {name: value for name, value in values.items() if value is not UNSET}
                return values
        try:
            return dict(bind(self._signature, args, kwargs, self.name).arguments)
        except TypeError as error:
            raise ArgumentError(f"{self.call_text}: {error}") from None

    def check(self, body: bytes, given: Iterable[str]) -> None:
        """Raise ArgumentError for what the worker would refuse, and for values in `given` that no caller may give."""
        try:
            arguments = self._read(body)
        except Undecodable as error:
            raise ArgumentError(f"{self.call_text}: {error}") from None
        for name, doubt in self._doubts:
            if name in given:
                # The value has come from JSON, so that of all doubts only that of a naive datetime can be true.
                value = getattr(arguments, name)
                self._refuse_change(name, doubt(value, value, value), asdict(arguments))

    def _read(self, body: bytes) -> Any:
        if is_too_deep(body):
            raise Undecodable(TOO_DEEP)
        try:
            return self._decode(body)
        except ValidationError as error:
            message = explained(error)
            if error.__cause__ is not None:  # the __post_init__ of an argument's type raised, perhaps with the value
                message = self.redact(message, _json(body))
            raise ArgumentError(f"{self.call_text}: {message}") from None
        except (DecodeError, UnicodeError, RecursionError) as error:
            raise Undecodable(f"the arguments are not readable JSON: {error}") from None
        except DefinitionError:
            raise
        except Exception as error:  # from the __post_init__ of an argument's type
            raise ArgumentError(
                f"{self.call_text}: refused by an argument's own type: {type(error).__name__}"
            ) from None

    def _spread(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, value in zip(self._parameters, values, strict=True):
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(() if value is UNSET else value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update({} if value is UNSET else value)
            elif parameter.kind is parameter.POSITIONAL_ONLY or (
                self._spread_by_place and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ):
                args.append(parameter.default if value is UNSET else value)
            elif value is not UNSET:
                kwargs[parameter.name] = value
        return tuple(args), kwargs

    def _refuse(self, error: Exception, values: Mapping[str, Any]) -> NoReturn:
        """Raise the ArgumentError for a call that failed its check with `error`."""
        hide = partial(self.redact, values=values)
        for name, value in values.items():
            found = no_json(value)
            if found is not None:
                place, sentence = found
                foreign = sentence.startswith("cannot encode")  # the annotations do not matter then
                where, hint = (self.name, _INSTEAD) if foreign else (self.call_text, None)
                raise ArgumentError(f"{where}: {name}{hide(place)}: {hide(sentence)}", hint=hint) from None
        if isinstance(error, ValidationError):
            raise ArgumentError(f"{self.call_text}: {hide(explained(error))}") from None
        text = str(error)
        cause = error if hide(text) == text else None
        raise ArgumentError(f"{self.call_text}: {type(error).__name__}: {hide(text)}") from cause

    # --- results

    def encode_result(self, value: Any) -> bytes:
        """Return the JSON of a result. Raises TypeError or ValueError if the result would not come back as
        annotated."""
        try:
            result = self._result_codec()
        except DefinitionError as error:
            raise TypeError(error.message) from None
        try:
            if result.check is not None:
                value = result.check({"value": value}).value
            body = encode(exposed(value) if result.hides else value)
            too_deep = is_too_deep(body)
            received = None if too_deep else result.decode(body)
        except Exception as error:  # also what the attributes of somebody's object raise
            found, message = no_json(value), explained(error)
            if found is not None:
                message = f"{found[0]}: {found[1]}"
            else:
                message = message.removeprefix("value") if message.startswith("value") else f": {message}"
            raise TypeError(f"{self.text}: result{message}") from None
        if too_deep:
            raise ValueError(f"{self.text}: result: {TOO_DEEP}")
        if result.vague and b"null" in body and (found := no_json(value)):
            raise ValueError(f"{self.text}: result{found[0]}: {found[1]}")
        for doubt in result.doubts:
            found = doubt(value, value, received)
            if found is not None:
                raise ValueError(f"{self.text}: result{found[0]}: {found[1]}")
        return body

    def decode_result(self, raw: bytes) -> Any:
        """Return a stored result as annotated. Raises ValueError if the result is not of the annotated type."""
        result = self._result_codec()
        if is_too_deep(raw):
            raise ValueError(TOO_DEEP)
        try:
            return result.decode(raw)
        except ValueError as error:  # msgspec's errors are ValueErrors
            raise ValueError(explained(error)) from None
        except Exception as error:  # from the __post_init__ of the result's type, or too deep for this stack
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def _result_codec(self) -> _Result:
        if self._result is None:
            self.prepare(result=True)
            assert self._result is not None
        return self._result

    # --- made once

    def _binder(self) -> Callable[..., Struct]:
        """Return a class whose constructor binds a call as the function's own signature does, in C."""
        by_place, by_name = (
            [_field(p, Any) for p in self._parameters if p.kind is kind]
            for kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        )
        first = msgspec.defstruct("Bound", by_place)
        return msgspec.defstruct("Bound", by_name, bases=(first,), kw_only=True) if by_name else first

    def _compile(self) -> None:
        fields: list[Any] = []
        parts: dict[str, Types] = {}
        taken: dict[str, Type] = {}
        for parameter in self._parameters:
            kind, parts[parameter.name] = self._inspected(parameter.name, self._kind(parameter))
            fields.append(_field(parameter, _collected(parameter, kind)))
            taken[parameter.name] = _collected_type(parameter, parts[parameter.name][0])
        arguments = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._check = checker(arguments, taken)
        self._decode = msgspec.json.Decoder(arguments, dec_hook=from_json).decode
        self._doubts = tuple((name, doubt) for name, nodes in parts.items() for doubt in doubts(nodes))
        self._hides = any(map(hides_fields, parts.values()))
        self._arguments = arguments

    def _compile_result(self) -> _Result:
        kind = self._hints.get("return", Any)
        if self.returns_none:
            kind = None
        elif kind is object:
            kind = Any
        kind, nodes = self._inspected("result", kind)
        check = None if kind is Any else checker(msgspec.defstruct("Result", [("value", kind)]), {"value": nodes[0]})
        decode = msgspec.json.Decoder(kind, dec_hook=from_json).decode
        return _Result(check, decode, is_untyped(nodes), hides_fields(nodes), doubts(nodes, result=True))

    def _decode_first(self, body: bytes) -> Any:
        self.prepare()
        return self._decode(body)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return hints_of(self._fn)
        except NameError:
            raise
        except Exception as error:  # whatever evaluating an annotation raises
            raise DefinitionError(f"{self.name}: {unresolved(self._fn)}: {error}") from error

    def _kind(self, parameter: inspect.Parameter) -> Any:
        kind = self._hints.get(parameter.name, Any)
        if typing.get_origin(kind) is typing.Unpack or getattr(kind, "__unpacked__", False):
            raise DefinitionError(
                f"{self.name}: {parameter.name}: Unpack is not supported in the signature of a task",
                hint="give each argument a parameter of its own",
            )
        return Any if kind is object else kind

    def _inspected(self, name: str, kind: Any) -> tuple[Any, Types]:
        """Return the annotation `kind` as msgspec takes it, and the types in it."""
        try:
            kind = known(kind)
            nodes = types_in(type_info(kind))
            found = without_json(nodes)
        except NameError:
            raise
        except Exception as error:  # msgspec's verdict on a type, or a fault in the type's own definition
            found = str(error)
        else:
            if found is None:
                return kind, nodes
        raise DefinitionError(f"{self.name}: {name}: {found}", hint=advice(found) or _TYPES)


def encode_plain(where: str, arguments: Mapping[str, Any]) -> bytes:
    """Return JSON values by parameter name as a body. Raises ArgumentError, whose text begins with `where`, for a value
    that is no JSON value."""
    if not isinstance(arguments, Mapping):
        raise ArgumentError(f"{where}: arguments go by parameter name, as {{'x': 2}}, not {type(arguments).__name__}")
    for name, value in arguments.items():
        if not isinstance(name, str):
            raise ArgumentError(f"{where}: arguments go by parameter name, and {type(name).__name__} is no name")
        found = no_json(value) or round_trip_difference(value, msgspec.json.decode(encode(value)))
        if found is not None:
            raise ArgumentError(f"{where}: {name}{found[0]}: {found[1]}")
    return encode(dict(arguments))


def _json(body: bytes) -> Any:
    """Return the values in `body`, whose beginning at least is JSON. Raises Undecodable."""
    try:
        return msgspec.json.decode(body)
    except (DecodeError, UnicodeError, RecursionError) as error:
        raise Undecodable(f"the arguments are not readable JSON: {error}") from None


def _optional(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty or parameter.kind.name.startswith("VAR_")


def _field(parameter: inspect.Parameter, kind: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    return (parameter.name, kind, UNSET) if _optional(parameter) else (parameter.name, kind)


def _collected(parameter: inspect.Parameter, kind: Any) -> Any:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple[kind, ...]
    return dict[str, kind] if parameter.kind is parameter.VAR_KEYWORD else kind


def _collected_type(parameter: inspect.Parameter, info: Type) -> Type:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return VarTupleType(info)
    return DictType(StrType(), info) if parameter.kind is parameter.VAR_KEYWORD else info

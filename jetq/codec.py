"""A task's signature as the schema of its calls: arguments to JSON and back, checked by what the worker will use.

The worker's own decoder reads every call once before it is sent, and what comes back must equal what went in. So a set
in a parameter without annotation is refused, though JSON could write it: the worker would get a list.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import PurePath
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from jetq.errors import ArgumentError, DefinitionError

__all__ = ["Signature", "Undecodable"]

_DEPTH = 100
_PATH_IN_ERROR = re.compile(r"(?s)^(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?$")
_NOT_JSON_HINT = "annotate the parameter with its type, or pass JSON values: None, bool, int, float, str, list, dict"


class Undecodable(ValueError):
    """Bytes that are not the JSON of a call."""


class Signature:
    """The parameters and the result of one function, as the schema of its calls.

    Annotations are resolved at first use, so they may name what is defined further down in their module.
    Raises DefinitionError for an annotation that has no JSON form, naming it.
    """

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self.name = name
        self._fn = fn
        self._signature = inspect.signature(fn)
        self._parameters = tuple(self._signature.parameters.values())
        kinds = {parameter.kind for parameter in self._parameters}
        self._index = {parameter.name: place for place, parameter in enumerate(self._parameters)}
        self._names = tuple(self._index)
        self._simple = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}

    @cached_property
    def call_text(self) -> str:
        """The signature as it is written, without the result: `tasks.add(x: int, y: int)`."""
        return f"{self.name}{self._signature.replace(return_annotation=inspect.Signature.empty)}".replace("'", "")

    @cached_property
    def text(self) -> str:
        """The signature as it is written: `tasks.add(x: int, y: int) -> int`."""
        return f"{self.name}{self._signature}".replace("'", "")

    @cached_property
    def returns_none(self) -> bool:
        """Whether the function is annotated `-> None`."""
        return self._signature.return_annotation in (None, "None", type(None))

    def parameter_type(self, name: str) -> Any:
        """The resolved annotation of parameter `name`; Any without one. Raises KeyError for an unknown name."""
        self._index[name]
        return self._hints.get(name, Any)

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of the parameters that take positional arguments, in order, `*args` not among them."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(parameter.name for parameter in self._parameters if parameter.kind in kinds)

    # --- calls

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The JSON of a call. Raises ArgumentError for what the worker would refuse or receive otherwise."""
        given = self._bind(args, kwargs)
        body = self._encode(given)
        try:
            decoded = self._decode(body)
        except (msgspec.ValidationError, ValueError) as error:
            raise self._refused(str(error), given) from None
        for name, value in given.items():
            received = getattr(decoded, name)
            if received is not value:
                self._compare(name, value, received)
        return body

    def encode_json(self, arguments: Mapping[str, Any]) -> bytes:
        """The JSON of a call whose arguments are JSON values already, by name. Raises ArgumentError if they do not fit."""
        body = self._encode(dict(arguments))
        try:
            self._decode(body)
        except (msgspec.ValidationError, ValueError) as error:
            raise self._refused(str(error), arguments) from None
        return body

    def decode(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of a stored call.

        Raises Undecodable for bytes that are not a JSON object, ArgumentError for one that does not fit the signature.
        """
        try:
            decoded = self._decode(body)
        except msgspec.ValidationError as error:
            raise self._refused(str(error), {}) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"the arguments are not readable JSON: {error}") from None
        except ValueError as error:  # from a type's own constructor
            raise self._refused(str(error), {}) from None
        values = astuple(decoded)
        if self._simple and not any(value is UNSET for value in values):
            return values, {}
        return self._spread(values)

    def merge(self, body: bytes, arguments: Mapping[str, Any]) -> bytes:
        """The call `body` with some of its arguments replaced. Raises ArgumentError as `encode` does."""
        try:
            given = dict(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"the arguments are not readable JSON: {error}") from None
        unknown = [name for name in arguments if name not in self._index]
        if unknown:
            raise ArgumentError(f"{self.call_text}: got an unexpected argument {unknown[0]!r}")
        new = self._encode(dict(arguments))
        merged = msgspec.json.encode(given | msgspec.json.decode(new, type=dict[str, msgspec.Raw]))
        self.decode(merged)
        return merged

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, by parameter name. Omitted defaults stay omitted: the worker's own apply."""
        if self._simple and len(args) <= len(self._names):
            given = dict(zip(self._names, args, strict=False))
            if not kwargs:
                return given
            if kwargs.keys() <= self._index.keys() and not kwargs.keys() & given.keys():
                given.update(kwargs)
                return given
        try:
            return dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise ArgumentError(f"{self.call_text}: {error}") from None

    def _encode(self, given: dict[str, Any]) -> bytes:
        try:
            return _encoder.encode(given)
        except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError):
            pass
        for name, value in given.items():  # which one was it?
            try:
                _encoder.encode(value)
            except RecursionError:
                raise ArgumentError(f"{self.call_text}: {name}: is nested too deeply or contains itself") from None
            except UnicodeEncodeError:
                raise ArgumentError(f"{self.call_text}: {name}: has characters that UTF-8 cannot hold") from None
            except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
                raise ArgumentError(
                    f"{self.call_text}: {name}: cannot encode {_culprit(error, value)} as JSON",
                    hint="pass an id instead, and load the object in the task",
                ) from None
        raise ArgumentError(f"{self.call_text}: the arguments cannot be encoded as JSON")

    def _compare(self, name: str, value: Any, received: Any) -> None:
        try:
            if type(value) is type(received) and type(value) in _PLAIN and value == received:
                return
        except RecursionError:
            pass
        difference = _difference(value, received, 0)
        if difference:
            hint = None if name in self._hints else _NOT_JSON_HINT
            raise ArgumentError(f"{self.call_text}: {name}: {difference}", hint=hint)

    def _refused(self, text: str, given: Mapping[str, Any]) -> ArgumentError:
        match = _PATH_IN_ERROR.match(text)
        what, path = (match["what"], match["path"] or "") if match else (text, "")
        name = re.split(r"[.\[]", path.lstrip("."))[0]
        if name in given and _has_nan(given[name], 0):
            return ArgumentError(f"{self.call_text}: {name}: NaN and infinity have no JSON form")
        if what.startswith("Object missing required field") and not path:
            return ArgumentError(f"{self.call_text}: missing a required argument: {what.split('`')[1]!r}")
        if what.startswith("Object contains unknown field") and not path:
            return ArgumentError(f"{self.call_text}: got an unexpected argument {what.split('`')[1]!r}")
        where = f"{path.lstrip('.')}: " if path else ""
        what = what.replace("`", "")
        return ArgumentError(f"{self.call_text}: {where}{what[:1].lower()}{what[1:]}")

    def _spread(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in self._parameters)
        for parameter, value in zip(self._parameters, values, strict=True):
            by_place = parameter.kind is parameter.POSITIONAL_ONLY or (
                variadic and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            )
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(() if value is UNSET else value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update({} if value is UNSET else value)
            elif by_place:
                args.append(parameter.default if value is UNSET else value)
            elif value is not UNSET:
                kwargs[parameter.name] = value
        return tuple(args), kwargs

    # --- results

    def encode_result(self, value: Any) -> bytes:
        """The JSON of a result. Raises TypeError or ValueError with a sentence for one that has none, or that is not of
        the annotated type."""
        try:
            body = _encoder.encode(value)
            received = self._decode_value(body)
        except msgspec.ValidationError as error:
            raise TypeError(f"{self.text}: {str(error).replace('`', '')}") from None
        except UnicodeEncodeError:
            raise ValueError(f"{self.text}: has characters that UTF-8 cannot hold") from None
        except RecursionError:
            raise ValueError(f"{self.text}: is nested too deeply or contains itself") from None
        except (TypeError, OverflowError, NotImplementedError) as error:
            raise TypeError(f"{self.text}: cannot encode {_culprit(error, value)} as JSON") from None
        if received is not value and (difference := _difference(value, received, 0)):
            raise TypeError(f"{self.text}: {difference}")
        return body

    def decode_result(self, raw: bytes) -> Any:
        """A stored result as the annotated type. Raises ValueError if it is none of that type."""
        return self._decode_value(raw)

    # --- decoders, made at first use

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._fn, include_extras=True)
        except Exception as error:  # whatever evaluating an annotation raises
            raise DefinitionError(
                f"task {self.name}: an annotation of {self._fn.__qualname__} cannot be resolved: {error}",
                hint="import the name at run time, not only under TYPE_CHECKING",
            ) from error

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        fields = [self._field(parameter) for parameter in self._parameters]
        try:
            arguments = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
            return msgspec.json.Decoder(arguments, dec_hook=_from_json).decode
        except TypeError as error:
            raise DefinitionError(
                f"task {self.name}: {error}", hint="annotate parameters with types msgspec supports"
            ) from error

    @cached_property
    def _decode_value(self) -> Callable[[bytes], Any]:
        kind = self._hints.get("return", Any)
        try:
            return msgspec.json.Decoder(kind, dec_hook=_from_json).decode
        except TypeError as error:
            raise DefinitionError(f"task {self.name}: the result's type: {error}") from error

    def _field(self, parameter: inspect.Parameter) -> Any:
        kind: Any = self._hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            return parameter.name, tuple[kind, ...] | UnsetType, UNSET
        if parameter.kind is parameter.VAR_KEYWORD:
            return parameter.name, dict[str, kind] | UnsetType, UNSET
        if parameter.default is parameter.empty:
            return parameter.name, kind
        return parameter.name, typing.Union[kind, UnsetType], UNSET  # noqa: UP007 - `|` fails for string annotations


def _to_json(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(_name(type(value)))


def _from_json(kind: type, value: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, PurePath):
        if not isinstance(value, str):
            raise msgspec.ValidationError(f"Expected a path, got {type(value).__name__}")
        return kind(value)
    raise NotImplementedError(f"type {_name(kind)} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_to_json)
_PLAIN = frozenset({str, int, float, bool, bytes})
_SAME_IN_JSON = ((int, float), (set, frozenset))


def _difference(sent: Any, received: Any, depth: int) -> str:
    """How what the worker would get differs from what was passed; empty if it does not."""
    if depth > _DEPTH:
        return "is nested too deeply"
    kind = type(sent)
    if isinstance(sent, float) and not math.isfinite(sent):
        return "NaN and infinity have no JSON form"
    if kind is not type(received) and not _interchangeable(sent, received):
        return f"a {_name(kind)} would arrive as {_name(type(received))}"
    if isinstance(sent, Mapping) and isinstance(received, Mapping):
        if list(map(type, sent)) != list(map(type, received)) or sent.keys() != received.keys():
            return "its keys would arrive as text"
        return next(filter(None, (_difference(sent[key], received[key], depth + 1) for key in sent)), "")
    if isinstance(sent, list | tuple) and isinstance(received, list | tuple) and len(sent) == len(received):
        pairs = zip(sent, received, strict=True)
        return next(filter(None, (_difference(a, b, depth + 1) for a, b in pairs)), "")
    return ""


def _interchangeable(sent: Any, received: Any) -> bool:
    if isinstance(received, PurePath) and isinstance(sent, PurePath):
        return True
    if isinstance(sent, type(received)):  # a subclass arrives as the annotated class
        return True
    return any(isinstance(sent, kinds) and isinstance(received, kinds) and sent == received for kinds in _SAME_IN_JSON)


def _has_nan(value: Any, depth: int) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if depth > _DEPTH:
        return False
    if isinstance(value, Mapping):
        return any(_has_nan(each, depth + 1) for each in value.values())
    return isinstance(value, list | tuple | set) and any(_has_nan(each, depth + 1) for each in value)


def _culprit(error: BaseException, value: Any) -> str:
    if isinstance(error, NotImplementedError) or "type is unsupported" in str(error):
        return str(error).removeprefix("Encoding objects of type ").removesuffix(" is unsupported")
    return _name(type(value))


def _name(kind: Any) -> str:
    module = getattr(kind, "__module__", "builtins")
    name = getattr(kind, "__qualname__", str(kind))
    return name if module == "builtins" else f"{module}.{name}"

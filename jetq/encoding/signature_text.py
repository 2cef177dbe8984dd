"""Signatures, and what msgspec says of values, as people read them."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any

from jetq.model.annotations import annotations_of
from jetq.model.redaction import is_secret, is_secret_name

__all__ = ["explained", "readable", "shown_type", "unresolved"]

_SHORT = 24
_SECRET = re.compile(r"typing\.Annotated\[([^,\[\]]+(?:\[[^\[\]]*\])?), Secret\]")
_MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")


_PLACE = re.compile(r"(?s)(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<place>.*)`)?")
_VALUE = re.compile(r"(?s)^(Invalid enum value|Invalid value) .*$")


class _Text:
    """Something that `inspect` shows as `text`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def readable(signature: inspect.Signature) -> inspect.Signature:
    """Return `signature` for printing: types without their modules or quotes, long and secret defaults as `...`."""
    parameters = [
        parameter.replace(annotation=_annotation(parameter.annotation), default=_default(parameter))
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=_annotation(signature.return_annotation))


def shown_type(annotation: Any) -> str:
    """Return an annotation as text without modules: `Path`, `list[Path] | None`."""
    if isinstance(annotation, str):
        return annotation
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation.__name__
    text = _SECRET.sub(r"Secret[\1]", repr(annotation))
    return text if "'" in text or '"' in text else _MODULES.sub("", text)


def unresolved(fn: Callable[..., Any]) -> str:
    """Return which annotation of a Python function cannot be resolved, in words for a sentence: `the annotation x:
    Order`."""
    for name, annotation in annotations_of(fn).items():
        try:
            holder = types.SimpleNamespace(__annotations__={name: annotation})
            typing.get_type_hints(holder, globalns=getattr(fn, "__globals__", {}))
        except Exception:
            return f"the annotation {name}: {shown_type(annotation)}"
    return "an annotation"


def _annotation(annotation: Any) -> Any:
    return annotation if annotation is inspect.Signature.empty else _Text(shown_type(annotation))


def _default(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if default is inspect.Parameter.empty:
        return default
    plain = default is None or (isinstance(default, bool | int | float | str | Enum) and not _secret(parameter))
    return _Text(text) if plain and len(text := repr(default)) <= _SHORT else _Text("...")


def _secret(parameter: inspect.Parameter) -> bool:
    kind = parameter.annotation
    return is_secret_name(parameter.name) or is_secret(kind) or (isinstance(kind, str) and "Secret[" in kind)


def explained(error: Exception) -> str:
    """Return msgspec's message with the place first, by parameter name, and without the refused value."""
    match = _PLACE.fullmatch(str(error))
    what, place = (match["what"], (match["place"] or "").lstrip(".")) if match else (str(error), "")
    what = what.replace("`", "")
    field = what.rpartition(" ")[2]
    dot = "." if place else ""
    if what.startswith("Object missing required field"):
        return f"{place}{dot}{field}: is missing" if place else f"missing a required argument: {field!r}"
    if what.startswith("Object contains unknown field"):
        return f"{place}{dot}{field}: is unknown" if place else f"got an unexpected argument {field!r}"
    what = _VALUE.sub("not one of the allowed values", what)
    if match and match["key"]:
        place = f"a key in {place}"
    return f"{place}: {what[:1].lower()}{what[1:]}" if place else f"{what[:1].lower()}{what[1:]}"

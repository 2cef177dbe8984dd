"""Signatures and annotations, in the same way on every Python.

An annotation is evaluated where it stands, is text under `from __future__ import annotations`, or, from Python 3.14 on,
is evaluated when it is asked for, which fails for a name that is not defined yet.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

if sys.version_info >= (3, 14):
    from annotationlib import Format

__all__ = ["annotations_of", "bind", "hints_of", "signature_of", "signed_by"]


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of `fn`, with annotations as text if they cannot be evaluated, or not yet."""
    try:
        return inspect.signature(fn)
    except Exception:  # what evaluating one raises
        if sys.version_info >= (3, 14):
            return inspect.signature(fn, annotation_format=Format.STRING)
        raise


def signed_by(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Whose signature `fn` has: the innermost function that it wraps, or the outermost with a `__signature__`."""
    signed: Callable[..., Any] = inspect.unwrap(fn, stop=lambda each: hasattr(each, "__signature__"))
    return signed


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of `fn`, resolved, with those of its `__signature__` in their place if it has one. Raises
    NameError for what is not defined, or not yet, and whatever evaluating one raises."""
    if not hasattr(fn, "__signature__"):
        return typing.get_type_hints(fn, include_extras=True)
    signature = inspect.signature(fn)
    kinds = {each.name: each.annotation for each in signature.parameters.values()} | {
        "return": signature.return_annotation
    }
    holder = types.SimpleNamespace(
        __annotations__={name: kind for name, kind in kinds.items() if kind is not signature.empty}
    )
    return typing.get_type_hints(holder, globalns=inspect.unwrap(fn).__globals__, include_extras=True)


def bind(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    """The arguments of a call by parameter name. Raises TypeError if they do not fit."""
    if kwargs:
        _check_positional_only(signature, kwargs)
    return signature.bind(*args, **kwargs)


def _check_positional_only(signature: inspect.Signature, kwargs: Mapping[str, Any]) -> None:
    """Refuse what Python 3.13 takes, and 3.14: some of these by keyword."""
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in kwargs:
            raise TypeError(f"{parameter.name!r} is positional-only, but was passed as a keyword")


def annotations_of(holder: Any) -> dict[str, Any]:
    """The annotations of a function, or a class's own, as text if they cannot be evaluated, or not yet."""
    try:
        return inspect.get_annotations(holder)
    except Exception:  # what evaluating one raises
        if sys.version_info >= (3, 14):
            return inspect.get_annotations(holder, format=Format.STRING)
        raise

"""Signatures and annotations, read in the same way on every Python.

Python evaluates an annotation where it is written, or keeps the text under `from __future__ import annotations`. From
Python 3.14 on, Python evaluates an annotation when some code asks for it, which fails for a name that is not defined
yet.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from jetq.errors import DefinitionError
from jetq.migration_hints import argument_answer

if sys.version_info >= (3, 14):
    from annotationlib import Format

__all__ = ["annotations_of", "bind", "check_names", "hints_of", "signature_of", "signed_by", "unexpected"]


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of `fn`.

    From Python 3.14 on, all annotations are text if one of them cannot be evaluated, or not yet.
    """
    try:
        return inspect.signature(fn)
    except Exception:  # whatever the evaluation of an annotation raises
        if sys.version_info >= (3, 14):
            return inspect.signature(fn, annotation_format=Format.STRING)
        raise


def check_names(task: str, names: Iterable[str]) -> None:
    """Raise DefinitionError for a parameter name that has another meaning in a class.

    jetq makes a class of the arguments of a call, with a field of each name.
    """
    for name in names:
        if name.startswith("__") and name.strip("_"):
            raise DefinitionError(
                f"{task}: {name}: the name of a task's parameter does not begin with two underscores",
                hint=f"a parameter that is given by its place only is written ({name.strip('_')}, /)",
            )


def signed_by(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function whose signature `fn` has.

    That is the innermost function that `fn` wraps, or the outermost function with a `__signature__`.
    """
    signed: Callable[..., Any] = inspect.unwrap(fn, stop=lambda each: hasattr(each, "__signature__"))
    return signed


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of `fn`, resolved. If `fn` has a `__signature__`, its annotations take their place.

    Raises NameError for a name that is not defined, or not yet, and whatever the evaluation of an annotation raises.
    """
    if not hasattr(fn, "__signature__"):
        return typing.get_type_hints(_annotated(fn), include_extras=True)
    signature = inspect.signature(fn)
    annotations = {each.name: each.annotation for each in signature.parameters.values()} | {
        "return": signature.return_annotation
    }
    holder = types.SimpleNamespace(
        __annotations__={name: kind for name, kind in annotations.items() if kind is not signature.empty}
    )
    return typing.get_type_hints(holder, globalns=inspect.unwrap(fn).__globals__, include_extras=True)


def _annotated(fn: Any) -> Any:
    """Return the function that has the annotations of `fn`, which may be a partial or a callable object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    call = type(fn).__call__
    return call if inspect.isfunction(call) else fn  # the `__call__` of a function is no Python function


def bind(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], task: str = "task"
) -> inspect.BoundArguments:
    """Return the arguments of a call of `task` by parameter name. Raises TypeError if they do not fit.

    The error tells of an unknown name before a missing argument, because most often the unknown name is the missing
    argument, misspelt.
    """
    if kwargs:
        _check_positional_only(signature, kwargs)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if not unknown or _takes_any_name(signature):
            raise
        raise TypeError(_misnamed(unknown[0], signature, args, kwargs, task)) from None


def unexpected(name: str, others: Iterable[str]) -> str:
    """Return the error text for an argument `name` that no parameter has.

    others: names; the text suggests the nearest of them, if any is near.
    """
    close = get_close_matches(name, list(others), n=1)
    return f"got an unexpected argument {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _misnamed(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], task: str
) -> str:
    answer = argument_answer(name, task)
    if answer is not None:
        return f"got an unexpected argument {name!r}, which is no parameter of the task: {answer}"
    left = list(signature.parameters.values())[len(args) :]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return unexpected(name, [each.name for each in left if each.kind in by_name and each.name not in kwargs])


def _takes_any_name(signature: inspect.Signature) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _check_positional_only(signature: inspect.Signature, kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError for a positional-only parameter given by keyword. Python 3.13 and 3.14 let some pass."""
    if _takes_any_name(signature):
        return
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in kwargs:
            raise TypeError(f"{parameter.name!r} is positional-only, but was passed as a keyword")


def annotations_of(holder: Any) -> dict[str, Any]:
    """Return the annotations of a function, or a class's own annotations without those of its bases.

    From Python 3.14 on, all annotations are text if one of them cannot be evaluated, or not yet.
    """
    try:
        return inspect.get_annotations(holder)
    except Exception:  # whatever the evaluation of an annotation raises
        if sys.version_info >= (3, 14):
            return inspect.get_annotations(holder, format=Format.STRING)
        raise

"""Exceptions as values: captured at the worker whatever they do, and made exceptions again at the caller."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jetq.errors import RemoteTraceback, TaskFailed
from jetq.model import AttemptError, DeadLetter, Failure

__all__ = ["bounded", "capture", "fit", "revive", "summarize"]

_MESSAGE = 2_000
_TRACEBACK = 16_000
_SUMMARY = 300
_ARGS = 2_000
_KEPT_FIRST, _KEPT_LAST = 1, 9

_OWN_CODE = str(Path(__file__).parent)
_encode = msgspec.json.Encoder().encode


def capture(error: BaseException) -> Failure:
    """`error` as text. Never raises, whatever its `__str__`, its arguments or its traceback do.

    The message is cut at 2,000 characters and the traceback at 16,000, from its middle; what UTF-8 cannot hold is replaced.
    """
    kind = type(error)
    return Failure(
        type=_clean(f"{kind.__module__}.{kind.__qualname__}")[:_SUMMARY],
        message=_cut(_message(error), _MESSAGE),
        traceback=_cut(_traceback(error), _TRACEBACK),
        args=_plain_args(error),
    )


def revive(failure: Failure) -> Exception:
    """An exception for `failure`, with the worker's traceback as its cause.

    Of its own class if that is an exception class of a module imported here already, takes the same arguments, and is not
    one that would end the process; TaskFailed otherwise. Nothing is imported because a message names it.
    """
    error = _own_class(failure)
    if error is None:
        error = TaskFailed(
            f"{failure.type}: {failure.message}", type=failure.type, remote_traceback=failure.traceback
        )
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def summarize(failure: Failure, attempt: int, at: float, worker: str) -> AttemptError:
    """`failure` as one line that travels with the job: its message cut at 300 characters."""
    return AttemptError(attempt=attempt, type=failure.type, message=_cut(failure.message, _SUMMARY), at=at, worker=worker)


def bounded(errors: Sequence[AttemptError], new: AttemptError) -> tuple[tuple[AttemptError, ...], int]:
    """`errors` and `new`, the first and the last nine of them, and how many were dropped."""
    kept = (*errors, new)
    dropped = max(0, len(kept) - _KEPT_FIRST - _KEPT_LAST)
    return (kept if not dropped else kept[:_KEPT_FIRST] + kept[-_KEPT_LAST:]), dropped


def fit(letter: DeadLetter, limit: int) -> DeadLetter:
    """`letter` shortened until its JSON has at most `limit` bytes: headers first, then traceback, messages, errors.

    What is left at the least is the job's name, place and reason, a few hundred bytes, even if `limit` is below that.
    """
    failure = letter.failure
    short = replace(failure, message=_cut(failure.message, _SUMMARY), args=None)
    steps: list[dict[str, Any]] = [
        {},
        {"headers": {name: value for name, value in letter.headers.items() if len(value) < _SUMMARY}},
        {"headers": {}},
        {"failure": replace(failure, traceback=_cut(failure.traceback, 4_000))},
        {"failure": replace(short, traceback=_cut(failure.traceback, 1_000))},
        {"failure": replace(short, traceback=""), "errors": letter.errors[-3:]},
        {"failure": replace(short, traceback="", message=_cut(failure.message, 80)), "errors": ()},
        {"address": letter.address[:160]},
    ]
    for step in steps:
        letter = replace(letter, **step)
        if len(_encode(letter)) <= limit:
            break
    return letter


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # an exception whose text raises must still be recorded
        return f"<the message could not be read: {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
            trace = trace.tb_next
        summary = traceback.TracebackException(type(error), error, trace, limit=60, compact=True)
        return "".join(summary.format())
    except BaseException as broken:  # TracebackException reads the exception's own attributes
        return f"<the traceback could not be read: {type(broken).__name__}>"


def _plain_args(error: BaseException) -> tuple[Any, ...] | None:
    try:
        args = tuple(error.args)
        text = _encode(args)
        if len(text) > _ARGS or msgspec.json.decode(text) != list(args):
            return None
        return args
    except BaseException:  # arguments of any kind, with any `__eq__`
        return None


def _own_class(failure: Failure) -> Exception | None:
    kind = _find_class(failure.type)
    if kind is None:
        return None
    for args in ([failure.args] if failure.args is not None else []) + [(failure.message,)]:
        try:
            error = kind(*args)
        except Exception:  # a constructor that wants something else
            continue
        if type(error) is kind and (failure.args is not None or _message(error) == failure.message):
            return error
    return None


def _find_class(name: str) -> type[Exception] | None:
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:split]))
        if module is None:
            continue
        found: object = module
        for part in parts[split:]:
            # vars, not getattr: a module's or class's `__getattr__` may import and compute
            found = vars(found).get(part) if isinstance(found, type | type(sys)) else None
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    return None


def _cut(text: str, limit: int) -> str:
    text = _clean(text)
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}\n... {len(text) - limit} characters cut ...\n{text[len(text) - (limit - head) :]}"


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")

"""Forked children of this process: a child loses its parent's sockets, and ends after the job's function."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

__all__ = ["end_child", "is_child_of", "not_for_children"]

_this_process = os.getpid()
_sockets: WeakKeyDictionary[Any, Callable[[Any], int]] = WeakKeyDictionary()


def not_for_children(owner: Any, fileno: Callable[[Any], int] = lambda owner: owner.fileno()) -> None:
    """Keep forked children from holding the socket of `owner`, as long as `owner` lives.

    fileno: gives the number of the socket of `owner`; -1 for no socket.

    So the other side of the connection sees its end when this process ends, however long the children live. This has no
    effect on Windows, which does not fork.

    Guarantee: tests/integration/attempts/test_forks.py: a child that a job forks holds no socket of its worker.
    """
    _sockets[owner] = fileno


def is_child_of(pid: int) -> bool:
    """Return whether this process is a forked child, and not the process `pid` itself.

    The worker asks once for each job, so this function makes no system call.
    """
    return _this_process != pid


def end_child(error: BaseException | None) -> NoReturn:
    """End this process, a forked child in which a job's function has ended, in the way a program ends.

    The child is no worker, so nothing else is left to do. error: the exception that ended the function; None if it
    returned.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = _exit_code(error.code)
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _let_go() -> None:
    global _this_process
    _this_process = os.getpid()
    # The sockets are not closed: their owners would close the same numbers later, which may be other files by then.
    numbers = set()
    for owner, fileno in list(_sockets.items()):
        with suppress(Exception):  # the socket may be closed, or only half made
            numbers.add(fileno(owner))
    _sockets.clear()
    numbers.discard(-1)
    if numbers:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in numbers:
            with suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)

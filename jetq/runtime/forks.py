"""What a forked child of this process has of its parent's: not its sockets, and no work to go on with."""

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
    """A child does not have the socket that `fileno(owner)` gives for as long as `owner` lives, -1 for none.

    So the other side of it sees its end when this process ends, however long its children live. Not for Windows, which
    does not fork.

    Guarantee: tests/integration/attempts/test_forks.py: a child that a job forks holds no socket of its worker.
    """
    _sockets[owner] = fileno


def is_child_of(pid: int) -> bool:
    """Whether this process is a forked child of that one. Asked once for each job, so it costs no system call."""
    return _this_process != pid


def end_child(error: BaseException | None) -> NoReturn:
    """End a child in which a job's function has ended, by `error` or not, as a program would: there is nothing else for
    it to do, and it is no worker."""
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
    # Not closed, because the objects that think they have them would close others of these numbers later.
    numbers = set()
    for owner, fileno in list(_sockets.items()):
        with suppress(Exception):  # it may be just being made, or closed
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

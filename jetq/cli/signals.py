"""Functions that are called at signals: on the running loop, or in a thread, which a blocked loop cannot delay."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from jetq.runtime.forks import not_for_children

__all__ = ["in_a_thread", "on_first_signal", "on_signals"]

_MANY = 64

_kept: list[object] = []
"""The sockets of `in_a_thread`, kept open because signals may come until the process has ended."""


def on_signals(handler: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `handler` for each of these signals, on the running loop."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(handler))


def on_first_signal(handler: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `handler` for the first of these signals, then restore what the signals do in every program."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        handler()
        for number in numbers:
            with suppress(NotImplementedError):  # on Windows
                loop.remove_signal_handler(number)

    on_signals(heard, *numbers)


def in_a_thread(handler: Callable[[signal.Signals], None], *numbers: signal.Signals) -> None:
    """Call `handler` for each of these signals, in a thread of its own. Call this function in the main thread.

    Python calls its own signal handlers in the main thread, once that thread runs Python code. It does not while the
    loop is blocked in a call that a signal does not interrupt, as the calls of database drivers are. The handler that
    the kernel calls writes to a socket at once, and the thread reads that socket.
    """
    ours, its = socket.socketpair()
    its.setblocking(False)
    _kept.append((ours, its))
    not_for_children(ours)
    not_for_children(its)

    def on_signal(number: int, _frame: object) -> None:
        before = signal.set_wakeup_fd(its.fileno())
        # If other code, such as `add_signal_handler` of a loop, has set its own descriptor, that one got the signal.
        if before != its.fileno():
            signal.set_wakeup_fd(before)
            with suppress(BlockingIOError):
                its.send(bytes([number]))

    def listen() -> None:
        while True:
            for number in ours.recv(_MANY):
                if number in numbers:
                    handler(signal.Signals(number))

    def forget() -> None:
        """Restore what the signals do in every program: a forked child has no such thread."""
        signal.set_wakeup_fd(-1)
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
    threading.Thread(target=listen, name="jetq-signals", daemon=True).start()
    for each in numbers:
        signal.signal(each, on_signal)
    signal.set_wakeup_fd(its.fileno(), warn_on_full_buffer=False)

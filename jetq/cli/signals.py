"""Signals as calls on the running loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

__all__ = ["on_first_signal", "on_signals", "on_signals_at_most_twice"]


def on_signals(handler: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `handler` for each of these signals, on the running loop."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        try:
            loop.add_signal_handler(number, handler)
        except NotImplementedError:  # on Windows
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(handler))


def on_first_signal(handler: Callable[[], None], *numbers: signal.Signals) -> None:
    """Call `handler` for the first of these signals; after that they mean again what they mean to every program."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        handler()
        for number in numbers:
            with suppress(NotImplementedError):  # on Windows
                loop.remove_signal_handler(number)

    on_signals(heard, *numbers)


def on_signals_at_most_twice(
    handler: Callable[[], None], *numbers: signal.Signals, otherwise: Callable[[], NoReturn]
) -> None:
    """Call `handler` on the running loop for the first two of these signals, and `otherwise` at once for the next: the
    loop may be blocked, and whoever asks three times means it."""
    loop = asyncio.get_running_loop()
    heard = 0

    def on_signal(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard > 2:
            otherwise()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(handler)

    for number in numbers:
        signal.signal(number, on_signal)

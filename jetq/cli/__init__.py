"""The `jetq` command: what is shown and asked in a terminal. The work is done below it."""

from __future__ import annotations

from jetq.cli.root import main

__all__ = ["main"]

"""The `jetq` command: what it prints in a terminal and what it asks there. Other packages of jetq do the work."""

from __future__ import annotations

from jetq.cli.root import main

__all__ = ["main"]

"""What jetq's side and the floor must agree on."""

from __future__ import annotations

__all__ = ["OTHER", "QUEUE", "TEXT"]

QUEUE = "bench"
OTHER = "bench-b"
"""The second queue of the case that has two."""

TEXT = "x" * 120
"""With it the arguments of a job take 150 bytes of JSON."""

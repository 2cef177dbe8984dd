"""`python -m jetq` is the command `jetq`."""

from __future__ import annotations

from jetq.cli import main

main()

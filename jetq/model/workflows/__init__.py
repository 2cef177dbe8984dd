"""Workflows: plans, the marks that steps leave, and what has to be done next. Nothing here has a clock or does I/O."""

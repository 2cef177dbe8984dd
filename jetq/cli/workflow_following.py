"""Shows the progress of a workflow until its end: as a tree that changes on a terminal, elsewhere as lines."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Mapping

import click

from jetq.broker import Broker
from jetq.cli.output import printable
from jetq.encoding.sealer import Sealer
from jetq.model.workflows.views import StepView
from jetq.operations.workflows.views.drawing import draw_tree, step_counts
from jetq.operations.workflows.views.viewing import WorkflowView, view_workflow

__all__ = ["LOOK_EVERY", "follow_workflow"]

LOOK_EVERY = 1.0
"""Seconds between two looks at the workflow."""


async def follow_workflow(broker: Broker, sealer: Sealer, workflow: str) -> WorkflowView:
    """Show the progress of a workflow until it has ended, and return it as it is then. Raises as `view_workflow`
    does."""
    shown = _Tree() if sys.stdout.isatty() else _Lines()
    while True:
        view = await view_workflow(broker, sealer, workflow)
        shown.show(view)
        if view.state != "running":
            return view
        await asyncio.sleep(LOOK_EVERY)


class _Lines:
    """One line for each step that has changed."""

    def __init__(self) -> None:
        self._steps: Mapping[str, StepView] = {}

    def show(self, view: WorkflowView) -> None:
        for name, step in view.steps.items():
            before = self._steps.get(name)
            if before is None or (before.state, step_counts(before)) != (step.state, step_counts(step)):
                click.echo(printable(f"{name}  {step.state}  {step_counts(step)}"))
        self._steps = view.steps


class _Tree:
    """The tree of the steps, in the place of the tree that was shown before. A screen that is too low for the tree
    shows the end of it."""

    def __init__(self) -> None:
        self._lines = 0

    def show(self, view: WorkflowView) -> None:
        size = shutil.get_terminal_size()
        lines = [printable(line)[: size.columns - 1] for line in draw_tree(view.steps, view.plan)]
        lines = lines[-(size.lines - 1) :]
        back = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        click.echo(back + "\n".join(lines))
        self._lines = len(lines)

"""Workflows as applications write them: calls put together, and how they become the steps of a plan."""

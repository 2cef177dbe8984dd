"""Pauses, limits and rates across all workers: what a job must pass before it starts."""

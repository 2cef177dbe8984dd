"""Workflows seen from outside: their steps, lists, drawings."""

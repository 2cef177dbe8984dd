"""Definitions: what an application says of its tasks, queues and schedules, checked where the application says it."""

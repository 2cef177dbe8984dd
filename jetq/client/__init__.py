"""What application code holds: the app, tasks, calls, handles of jobs, and the connections they use."""

"""What the command `jetq worker` does beside the worker: prints a banner, answers for its health over HTTP, reloads
code."""

"""What the command `jetq worker` does beside the worker itself: banner, health over HTTP, reloading."""

"""Parts of the command `jetq worker` around the worker: the banner, health over HTTP, reloading."""

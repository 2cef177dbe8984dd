"""The prefix of the subjects of the JetStream API."""

from __future__ import annotations

__all__ = ["api_prefix"]


def api_prefix(domain: str | None) -> str:
    """Return the prefix of the API of a domain's JetStream; None stands for the JetStream of the connected server."""
    return f"$JS.{domain}.API" if domain else "$JS.API"

"""Mails from templates: Jinja and MJML, filled in with CSS inlined, and previews for those who write them."""

from __future__ import annotations

from jetq_email.templates.rendering import Rendered, names, page, render, variables

__all__ = ["Rendered", "names", "page", "render", "variables"]

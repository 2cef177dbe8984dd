"""Makes mails from templates: Jinja and MJML, with CSS inlined, and previews for authors of templates."""

from __future__ import annotations

from jetq_email.templates.rendering import Rendered, names, page, render, variables

__all__ = ["Rendered", "names", "page", "render", "variables"]

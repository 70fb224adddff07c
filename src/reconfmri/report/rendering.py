"""Templates to HTML: everything escaped, one style, and a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def render(template: str, **context: Any) -> str:
    """Return a page with our style embedded; `css_hash` is what its policy allows.

    Raises
    ------
    jinja2.UndefinedError
        The template asks for something that `context` lacks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (HERE / "page.css").read_text(encoding="utf-8")
    style = {
        "css": Markup(css),  # noqa: S704 - our own file, not data
        "css_hash": Markup(base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()),  # noqa: S704
    }
    return environment.get_template(template).render(style | context)

"""Templates to HTML: everything escaped, one style, and a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def render(template: str, *, script: str = "", **context: Any) -> str:
    """Return a page with our style embedded; `css_hash` is what its policy allows.

    `script` names the file of a script of ours, which the page embeds; its policy allows `script_hash`.

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
    own = {"css": "page.css"} | ({"script": script} if script else {})
    embedded: dict[str, Markup] = {}
    for name, file in own.items():
        text = (HERE / file).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        embedded |= {name: Markup(text), f"{name}_hash": Markup(digest)}  # noqa: S704 - our own files, not data
    return environment.get_template(template).render(embedded | context)

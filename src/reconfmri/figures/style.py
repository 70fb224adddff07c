"""One look for all figures of the report: sizes, colours for colour-blind readers too, and light SVG."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2730", "#66707c", "#e2e6ea"
ACTIVE, CONTROL = "#1b5e9e", "#c0701f"
ACTIVES = (ACTIVE, "#12807a", "#7553a6", "#5f6b12", "#8a4b3c")  # of several active arms
TRUTH, OUT = "#a3226f", "#b3261e"
# Paul Tol's "bright" scheme, for regions.
BRIGHT = ("#ee6677", "#4477aa", "#ccbb44", "#66ccee", "#aa3377", "#228833", "#bbbbbb")
METHOD_MARKS: dict[str, dict[str, Any]] = {
    "bayes": {"marker": "o", "color": INK, "markerfacecolor": INK},
    "reml": {"marker": "o", "color": "#3d4854", "markerfacecolor": "white"},
    "ancova": {"marker": "D", "color": "#7a8794", "markerfacecolor": "white"},
    "welch": {"marker": "s", "color": "#7a8794", "markerfacecolor": "white"},
}
SETTINGS = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "none",
    "svg.hashsalt": "reconfmri",
    "axes.unicode_minus": True,
    "text.parse_math": False,
}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


P = ParamSpec("P")


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Return a drawing function that runs with the house settings; labels are never read as formulas."""

    @wraps(function)
    def with_settings(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context(SETTINGS):
            return function(*args, **kwargs)

    return with_settings


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size (inches), outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy(axes: Axes, *, grid: Literal["x", "y", ""] = "") -> None:
    """Leave an axes with its left and bottom line, small ticks, and a light grid along `grid`."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(length=2.5, width=0.7, color=MUTED, labelcolor=INK, labelsize=8)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG with real text, and attributes where a strict CSP would block styles."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return re.sub(r'style="([^"]*)"', _attributes, text)


def to_png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def light_png(figure: Figure) -> bytes:
    """Return a figure at its own resolution as a PNG of 96 colours, a third of the size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw").convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def data_uri(content: str | bytes) -> str:
    """Return an SVG text or the bytes of a PNG as a `data:` address for an `img`."""
    kind = "svg+xml" if isinstance(content, str) else "png"
    raw = content.encode() if isinstance(content, str) else content
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"


def _attributes(match: re.Match[str]) -> str:
    """A style as presentation attributes; the `font` shorthand, which has none, is taken apart."""
    attributes = []
    for part in match.group(1).split(";"):
        name, _, value = part.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            attributes += _font(value)
        elif name and name != "mix-blend-mode":
            attributes.append(f'{name}="{value}"')
    return " ".join(attributes)


def _font(value: str) -> list[str]:
    parts = re.match(r"(?:(italic|oblique)\s+)?(?:(\d{3}|bold)\s+)?([\d.]+px)\s", value)
    if parts is None:
        return [f'font-family="{FONTS}"']
    style, weight, size = parts.groups()
    attributes = [f'font-size="{size}"', f'font-family="{FONTS}"']
    attributes += [f'font-style="{style}"'] if style else []
    attributes += [f'font-weight="{weight}"'] if weight else []
    return attributes

"""Figures: the one place that knows matplotlib, their style, and how they become SVG or PNG.

    with styled():
        figure = new_figure(6.4, 3.6)
        axes = figure.subplots()
        axes.plot(x, y, color=colour_of("pool:1"), marker=marker_of("pool:1"))
    text = svg(figure, "What the figure shows")

matplotlib is loaded when a figure is made. pyplot and its global state are never used, and the
user's own settings of matplotlib neither count here nor change.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import re
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1d2127", "#697582", "#d9dee4", "#fefefd"
"""Text and axes, what stands back, lines of the grid, and the background. A PNG shows
them as they are; `svg` puts CSS in their place, so draw with no other grey, black or white."""

_IN_SVG = {
    INK: "var(--plot-ink, currentColor)",
    MUTED: "var(--plot-muted, #7f8a96)",
    GRID: "var(--plot-grid, rgba(128, 138, 150, 0.3))",
    PAPER: "var(--plot-paper, transparent)",
}
"""Without the variables the text has the page's colour, and greys serve on light and dark alike."""

_FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"

_COLOURS = {
    "sync": "#0072b2",
    "async": "#009e73",
    "thread": "#56b4e9",
    "native": "#cc79a7",
    "ray": "#8c6bb1",
}
_POOL_COLOURS = ("#e8a020", "#d55e00", "#b04a00", "#923c00")
"""By the number of workers: none, one, two or three, more."""

_MARKERS = {"sync": "o", "async": "^", "thread": "v", "native": "D", "ray": "X"}
_POOL_MARKERS = ("p", "s", "h", "8")

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.edgecolor": "none",
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.loc": "upper left",
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


def colour_of(mode: str) -> str:
    """The colour of a mode, the same in every figure; for colour-blind readers too.

    All pools have one hue, the darker the more workers they have.

    Args:
        mode: As a user pins it, such as `pool:1`.
    """
    name = mode.partition(":")[0]
    return _POOL_COLOURS[_workers_class(mode)] if name == "pool" else _COLOURS.get(name, MUTED)


def marker_of(mode: str) -> str:
    """Matplotlib's name of the mark that a mode has beside its colour."""
    name = mode.partition(":")[0]
    return _POOL_MARKERS[_workers_class(mode)] if name == "pool" else _MARKERS.get(name, "P")


def dashes_of(mode: str) -> str:
    """Matplotlib's line style of a mode: dashed where workers sleep, dotted for `native`."""
    return "--" if mode.endswith(":sleep") else ":" if mode == "native" else "-"


def _workers_class(mode: str) -> int:
    workers = mode.split(":")[1:2]
    count = int(workers[0]) if workers and workers[0].isdecimal() else 1
    return 0 if count == 0 else 1 if count == 1 else 2 if count < 4 else 3


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Sets the style while a figure is made, on top of matplotlib's defaults.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that arranges its axes itself; call it inside `styled`.

    Args:
        width_in: Width in inches; an inch is 72 units of the SVG.
        height_in: Height in inches.
    """
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def svg(figure: Figure, title: str = "", *, standalone: bool = False) -> str:
    """A figure as the text of one `<svg>` element, to be put into an HTML page as it is.

    It needs nothing from outside, has a transparent background and text that stays text, and is as
    wide as its place allows, up to its own size. Its ids begin with a hash of what it shows, so
    that several of them do not clash in one page. Text and lines follow the colour of the page's
    text; a page may set `--plot-ink`, `--plot-muted`, `--plot-grid` and `--plot-paper`.

    Args:
        figure: Made inside `styled`.
        title: What it shows, for those who cannot see it.
        standalone: Whether it becomes a file of its own: that has a prolog, and is dark or light by
            what the viewer prefers.
    """
    buffer = io.StringIO()
    _make_printable(figure)
    with styled():
        _matplotlib().rcParams["svg.hashsalt"] = "vecselect"
        figure.savefig(buffer, format="svg", facecolor="none", edgecolor="none")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The date, and a style sheet that would hold for the whole page.
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    for colour, css in _IN_SVG.items():
        text = text.replace(colour, css)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", _FONT, text)
    text = _with_own_ids(text)
    return _with_head(text, title, standalone).strip() + "\n"


def png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """A figure as a PNG on white.

    Args:
        figure: Made inside `styled`.
        dots_per_inch: How finely it is drawn.
    """
    buffer = io.BytesIO()
    _make_printable(figure)
    with styled():
        figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


def _make_printable(figure: Figure) -> None:
    """Takes from every text what cannot be drawn."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "A plot needs matplotlib, which is not installed here; "
            "install it with: pip install 'vecselect[plot]'."
        ) from error
    return matplotlib


def _with_own_ids(text: str) -> str:
    """Drops the ids that nothing refers to, and makes the others this figure's own."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    prefix = "p" + hashlib.sha256(text.encode()).hexdigest()[:8]

    def renamed(found: re.Match[str]) -> str:
        return f' id="{prefix}-{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]*)"', renamed, text)
    return re.sub(r'(href="|url\()#([^")]+)', rf"\1#{prefix}-\2", text)


def _with_head(text: str, title: str, standalone: bool) -> str:
    """The same with a first tag that makes it fit its place, and a title."""
    head, _, rest = text.partition(">")
    view = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    assert view is not None and width is not None, "matplotlib writes both"
    attributes = [
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"',
        f'{view[0]} role="img" stroke-linejoin="round" stroke-linecap="butt"',
        f'width="100%" style="max-width: {float(width[1]) * 4 / 3:.0f}px; height: auto"',
    ]
    named = f"\n <title>{html.escape(printable(title))}</title>" if title else ""
    if not standalone:
        return f"<svg {' '.join(attributes)}>{named}{rest}"
    # With a background of its own: a browser shows such a file on white, whatever is preferred.
    themes = (
        f"\n <style>svg {{ color: {INK}; background: {PAPER}; --plot-paper: {PAPER} }} "
        "@media (prefers-color-scheme: dark) "
        "{ svg { color: #e6e9ed; background: #15181c; --plot-paper: #15181c } }</style>"
    )
    prolog = '<?xml version="1.0" encoding="utf-8"?>\n'
    return f"{prolog}<svg {' '.join(attributes)}>{named}{themes}{rest}"

"""Figures: how they look, and how they become SVG or PNG.

    with styled(LIGHT):
        figure = new_figure(6.4, 3.6)
        axes = figure.subplots()
        axes.plot(x, y, **line_of("pool:1"))
    text = svg(figure, LIGHT, "What the figure shows")

matplotlib is loaded when a figure is made. pyplot and its global state are never used, and the
user's own settings of matplotlib neither count here nor change.
"""

from __future__ import annotations

import base64
import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecselect.errors import RequestError
from vecselect.modes import Mode
from vecselect.report.units import all_printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Palette:
    """The greys of a figure.

    Attributes:
        ink: Text and outlines.
        muted: What stands back.
        grid: Lines of the grid.
        paper: The background.
    """

    ink: str
    muted: str
    grid: str
    paper: str


LIGHT = Palette("#1d2127", "#697582", "#d9dee4", "#fdfdfc")
DARK = Palette("#e4e7eb", "#8b96a2", "#343b43", "#15181c")

_LOOKS = {
    "sync": ("#0072b2", "o"),
    "async": ("#009e73", "^"),
    "thread": ("#56b4e9", "v"),
    "native": ("#cc79a7", "D"),
    "ray": ("#8c6bb1", "X"),
}
_POOL_LOOKS = (("#e8a020", "p"), ("#d55e00", "s"), ("#b04a00", "h"), ("#923c00", "8"))
"""By the number of workers: none, one, two or three, more."""

OTHER_LOOK = (LIGHT.muted, "P")


def look_of(mode: str) -> tuple[str, str]:
    """The colour of a mode and matplotlib's name of its mark, the same in every figure.

    The colours serve colour-blind readers too. All pools have one hue, the darker the more workers
    they have.

    Args:
        mode: As a user pins it, such as `pool:1`.
    """
    try:
        found = Mode.parse(mode)
    except RequestError:  # a plan of another version may have any
        return OTHER_LOOK
    if found.kind != "pool":
        return _LOOKS.get(found.kind, OTHER_LOOK)
    workers = 1 if found.workers is None else found.workers
    return _POOL_LOOKS[workers if workers < 2 else 2 if workers < 4 else 3]


def line_of(mode: str) -> dict[str, Any]:
    """How matplotlib draws the line of a mode."""
    colour, marker = look_of(mode)
    return {"color": colour, "marker": marker, "linestyle": ":" if mode == "native" else "-"}


def literal(text: str) -> str:
    """A foreign text without controls, in which matplotlib finds no formula."""
    return all_printable(text).replace("$", r"\$")


def _settings(palette: Palette) -> dict[str, Any]:
    ink, muted = palette.ink, palette.muted
    colours = {
        "axes.edgecolor": muted,
        "axes.facecolor": "none",
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "figure.facecolor": palette.paper,
        "grid.color": palette.grid,
        "legend.labelcolor": ink,
        "text.color": ink,
        "xtick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.color": muted,
        "ytick.labelcolor": ink,
    }
    return {
        **colours,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "font.size": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "vecselect",
    }


@contextlib.contextmanager
def styled(palette: Palette = LIGHT) -> Iterator[None]:
    """Sets the style while a figure is made, on top of matplotlib's defaults.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_settings(palette))
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


def svg(figure: Figure, title: str = "", palette: Palette = LIGHT) -> str:
    """A figure as the text of an SVG file, in which text stays text.

    Args:
        figure: Made inside `styled`, with the same palette.
        title: What it shows, for those who cannot see it.
        palette: Its greys.
    """
    buffer = io.StringIO()
    with styled(palette):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title or None})
    return buffer.getvalue()


def png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """A figure as a PNG.

    Args:
        figure: Made inside `styled`.
        dots_per_inch: How finely it is drawn.
    """
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()


def image(figure: Figure, palette: Palette, title: str) -> str:
    """A figure as a `data:` address of an SVG, for the `<img>` of a page."""
    text = svg(figure, title, palette)
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(
            "A plot needs matplotlib, which is not installed here; "
            "install it with: pip install 'vecselect[plot]'."
        ) from error
    return matplotlib

"""Draws a job's curves: one panel a kind of metric. Imported by `drawing`'s process alone."""

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from service.api.panels import Panel, Scale, chosen, colour, words

if TYPE_CHECKING:
    from service.records.metrics import Series  # brings SQLAlchemy, which no drawing needs

INCHES, HEADER_INCHES, DPI = (13.0, 10.0), 0.75, 110
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.ymargin": 0.08,
    "grid.color": "#E6E6E6",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": True,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
}
MUTED = "#777777"
# Points from which a smoothed line is drawn over the raw one, and the window as a part of the curve.
SMOOTHED_FROM, WINDOW = 40, 0.05
FEW_POINTS = 25  # a curve of no more is drawn with its points
WIDE = 30.0  # a range of so many times its lowest value is drawn on a logarithmic scale


def plot(
    series: Mapping[str, "Series"], *, title: str, caption: str, best_images: int | None = None
) -> bytes:
    """The curves as a PNG of one size, with a panel for each kind that there is.

    `best_images` is where the best checkpoint is marked.
    """
    picture = io.BytesIO()
    with mpl.rc_context(STYLE):
        draw_figure(series, title, caption, best_images).savefig(picture, format="png")
    return picture.getvalue()


def draw_figure(series: Mapping[str, "Series"], title: str, caption: str, best_images: int | None) -> Figure:
    """What `plot` saves, in the style that is set."""
    panels = chosen(list(series))
    columns = _columns(len(panels))
    rows = max(1, math.ceil(len(panels) / columns))
    # The panels share what the two lines of the header leave.
    rect = (0, 0, 1, 1 - HEADER_INCHES / INCHES[1])
    layout = ConstrainedLayoutEngine(rect=rect, h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=INCHES, dpi=DPI, layout=layout)
    _head(figure, title, caption, best_images)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for index, (ax, (panel, keys)) in enumerate(zip(axes, panels, strict=False)):
        _draw(ax, panel, {key: series[key] for key in keys})
        _mark_images(ax, _last_images(series), best_images, named=index + columns >= len(panels))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "no points yet", ha="center", va="center", color=MUTED, fontsize=13)
    return figure


def _columns(panels: int) -> int:
    return next((columns for columns, most in ((1, 2), (2, 6), (3, 12)) if panels <= most), 4)


def _head(figure: Figure, title: str, caption: str, best_images: int | None) -> None:
    # A name is text: a `$` in it starts no formula.
    header: dict[str, Any] = {"x": 0.01, "va": "top", "parse_math": False}
    figure.text(y=1 - 0.1 / INCHES[1], s=title, fontsize=14, fontweight="bold", **header)
    marked = "" if best_images is None else f" · dashed: the best checkpoint, at {best_images:,} images"
    figure.text(y=1 - 0.41 / INCHES[1], s=caption + marked, color=MUTED, fontsize=10, **header)


def _mark_images(ax: Axes, last: int, best: int | None, *, named: bool) -> None:
    """All panels have one x axis, so that what happened at one time stands at one place."""
    ax.set_xlim(-0.02 * last, 1.02 * last or 1)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    if named:
        ax.set_xlabel("images shown", color=MUTED)
    if best is not None:
        ax.axvline(best, color="#333333", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.8)


def _last_images(series: Mapping[str, "Series"]) -> int:
    return max((curve["images"][-1] for curve in series.values() if curve["images"]), default=0)


def _draw(ax: Axes, panel: Panel, curves: Mapping[str, "Series"]) -> None:
    ax.set_title(panel.title)
    drawn = [_line(ax, panel, key, index, curve) for index, (key, curve) in enumerate(curves.items())]
    values = np.concatenate(drawn)
    if is_logarithmic(panel.scale, values[np.isfinite(values)]):
        ax.set_yscale("log", nonpositive="mask")
        low, high = ax.get_ylim()
        # Between two powers of ten there would be one number on the axis, or none.
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if panel.low is not None:
        _limit(ax, panel.low, panel.high)
    if len(curves) > 1:
        _explain(ax, len(curves))


def _limit(ax: Axes, low: float, high: float | None) -> None:
    """From the lowest value that there can be to the highest, or to the highest that there is."""
    top = max(ax.dataLim.y1, low) if high is None else high
    margin = 0.04 * (top - low) or 1.0
    ax.set_ylim(low - margin, top + margin)
    if high is not None:
        ax.set_yticks(np.linspace(low, high, 5))


def _explain(ax: Axes, curves: int) -> None:
    """A legend in room of its own above the curves."""
    rows = math.ceil(curves / 2)
    part = 0.05 + 0.1 * rows
    low, high = ax.transScale.transform([(1, limit) for limit in ax.get_ylim()])[:, 1]
    top = low + (high - low) / (1 - part)
    ax.set_ylim(top=ax.transScale.inverted().transform((1, top))[1])
    ax.legend(loc="upper left", ncols=2, handlelength=1.4, columnspacing=1.2, borderaxespad=0.1)


def is_logarithmic(scale: Scale, values: NDArray[np.float64]) -> bool:
    """Whether finite values are drawn on a logarithmic axis."""
    positive = values[values > 0]
    if scale == "auto":
        return len(positive) == len(values) > 0 and bool(positive.max() > WIDE * positive.min())
    return scale == "log" and len(positive) > 0


def number(value: float) -> str:
    """A number on an axis: short, whatever its size."""
    return str(EngFormatter(sep="")(value)) if abs(value) >= 10_000 else f"{value:.4g}"


def _line(ax: Axes, panel: Panel, key: str, index: int, curve: "Series") -> NDArray[np.float64]:
    """Draws a curve, and returns the values of its plain line."""
    images = np.asarray(curve["images"], dtype=float)
    values = np.asarray([np.nan if value is None else value for value in curve["value"]], dtype=float)
    smooth = _smoothed(values) if panel.noisy else None
    style: dict[str, Any] = {"color": colour(key, index), "label": words(key), "linewidth": 1.6}
    if smooth is not None:
        ax.plot(images, values, color=style["color"], alpha=0.2, linewidth=0.8)
    if len(values) <= FEW_POINTS:
        style |= {"marker": "o", "markersize": 3.5}
    if not panel.noisy and index:
        style["linestyle"] = "--"  # equal curves hide each other
    shown = values if smooth is None else smooth
    ax.plot(images, shown, **style)
    return shown


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A centred moving average that ignores gaps; None for a curve too short to need one."""
    if len(values) < SMOOTHED_FROM:
        return None
    window = np.ones(2 * max(1, int(len(values) * WINDOW / 2)) + 1)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), window, mode="same")
    count = np.convolve(finite.astype(float), window, mode="same")
    smooth = total / np.maximum(count, 1)
    smooth[~finite] = np.nan
    return smooth

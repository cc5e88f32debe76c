"""Draws a job's curves: one panel a kind of metric. Imported by `drawing`'s process alone."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

if TYPE_CHECKING:
    from service.records.metrics import Series  # brings SQLAlchemy, which no drawing needs


class Panel(NamedTuple):
    """A kind of metric: its title, and what its keys begin with."""

    title: str
    prefix: str
    scale: Literal["linear", "log"] = "linear"
    noisy: bool = True


PANELS = (
    Panel("Loss", "loss/"),
    Panel("Gradient norm", "gradient_norm/", scale="log"),
    Panel("Learning rate", "learning_rate/", noisy=False),
    Panel("Images per second", "rate/images_per_second"),
    Panel("Discriminator's mean output", "output/"),
    Panel("Evaluation", "evaluation/", noisy=False),
)
ALWAYS_SHOWN = 4
HEADER_INCHES = 0.7
# One colour a network in every panel, told apart with colour-vision deficiencies too (Okabe & Ito 2008).
COLOURS = {
    "generator": "#0072B2",
    "discriminator": "#D55E00",
    "denoising": "#009E73",
    "network": "#009E73",
    "images_per_second": "#555555",
    "real": "#009E73",
    "fake": "#CC79A7",
}
OTHER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
}
# Points from which a smoothed line is drawn over the raw one, and the window as a part of the curve.
SMOOTHED_FROM, WINDOW = 40, 0.05


def plot(series: Mapping[str, "Series"], *, title: str, caption: str, all_panels: bool = True) -> bytes:
    """The curves as a PNG; without `all_panels`, only the panels that have curves."""
    panels = [
        panel
        for index, panel in enumerate(PANELS)
        if (all_panels and index < ALWAYS_SHOWN) or any(key.startswith(panel.prefix) for key in series)
    ] or PANELS[:ALWAYS_SHOWN]
    rows = -(-len(panels) // 2)
    with mpl.rc_context(STYLE):
        height = HEADER_INCHES + 2.7 * rows
        # The panels share what the two lines of the header leave.
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEADER_INCHES / height))
        figure = Figure(figsize=(10, height), dpi=120, layout=layout)
        # A name is text: a `$` in it starts no formula.
        header: dict[str, Any] = {"x": 0.01, "va": "top", "parse_math": False}
        figure.text(y=1 - 0.08 / height, s=title, fontsize=13, fontweight="bold", **header)
        figure.text(y=1 - 0.36 / height, s=caption, color="#555555", **header)
        axes = list(figure.subplots(rows, min(2, len(panels)), squeeze=False).flat)
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, panel, {key: one for key, one in series.items() if key.startswith(panel.prefix)})
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw(ax: Axes, panel: Panel, curves: Mapping[str, "Series"]) -> None:
    ax.set_title(panel.title)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("images shown")
    if not curves:
        ax.text(0.5, 0.5, "no points yet", transform=ax.transAxes, ha="center", va="center", color="#999999")
        ax.set_xticks([])
        ax.set_yticks([])
        return
    for index, (key, curve) in enumerate(sorted(curves.items())):
        label = key.removeprefix(panel.prefix) or key.rpartition("/")[2]
        colour = COLOURS.get(label, OTHER_COLOURS[index % len(OTHER_COLOURS)])
        images = np.asarray(curve["images"], dtype=float)
        values = np.asarray([np.nan if value is None else value for value in curve["value"]], dtype=float)
        smooth = _smoothed(values) if panel.noisy else None
        if smooth is not None:
            ax.plot(images, values, color=colour, alpha=0.25, linewidth=0.8)
        line: dict[str, Any] = {"color": colour, "linewidth": 1.5, "label": label}
        # A single point has no line, and equal curves hide each other.
        line |= {
            "marker": "o" if len(values) == 1 else None,
            "linestyle": "--" if not panel.noisy and index else "-",
        }
        ax.plot(images, values if smooth is None else smooth, **line)
        if panel.scale == "log" and np.any(values > 0):
            ax.set_yscale("log")
    if len(curves) > 1 or panel.prefix == "evaluation/":
        ax.legend(loc="best", fontsize=8)


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

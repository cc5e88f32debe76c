"""Draws a job's curves: one panel a kind of metric. Imported by the plot route alone, on first use."""

import io
import threading
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from service.records.metrics import Series

# Panel title, prefix of the keys, and scale of the values.
PANELS = (
    ("Loss", "loss/", "linear"),
    ("Gradient norm", "gradient_norm/", "log"),
    ("Learning rate", "learning_rate/", "linear"),
    ("Images per second", "rate/images_per_second", "linear"),
    ("Discriminator's mean output", "output/", "linear"),
    ("Score", "score/", "linear"),
)
ALWAYS_SHOWN = 4
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

_lock = threading.Lock()


def plot(series: Mapping[str, Series], *, title: str, caption: str) -> bytes:
    """The curves as a PNG."""
    panels = [
        panel
        for index, panel in enumerate(PANELS)
        if index < ALWAYS_SHOWN or any(key.startswith(panel[1]) for key in series)
    ]
    rows = -(-len(panels) // 2)
    # The style is global in matplotlib, and requests come on many threads.
    with _lock, mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.9 + 2.7 * rows), dpi=120, layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False).flat
        # A name is text: a `$` in it starts no formula.
        figure.suptitle(f"{title}\n", fontsize=13, fontweight="bold", x=0.01, ha="left", parse_math=False)
        figure.text(
            0.01, 1 - 0.42 / figure.get_figheight(), caption, color="#555555", va="top", parse_math=False
        )
        for ax, (name, prefix, scale) in zip(axes, panels, strict=False):
            _draw(
                ax, name, {key: one for key, one in series.items() if key.startswith(prefix)}, prefix, scale
            )
        for ax in list(axes)[len(panels) :]:
            ax.set_visible(False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw(ax: Axes, name: str, curves: Mapping[str, Series], prefix: str, scale: str) -> None:
    ax.set_title(name)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("images shown")
    if not curves:
        ax.text(0.5, 0.5, "no points yet", transform=ax.transAxes, ha="center", va="center", color="#999999")
        ax.set_yticks([])
        return
    for index, (key, curve) in enumerate(sorted(curves.items())):
        label = key.removeprefix(prefix) or key.rpartition("/")[2]
        colour = COLOURS.get(label, OTHER_COLOURS[index % len(OTHER_COLOURS)])
        images = np.asarray(curve["images"], dtype=float)
        values = np.asarray([np.nan if value is None else value for value in curve["value"]], dtype=float)
        smooth = _smoothed(values)
        if smooth is not None:
            ax.plot(images, values, color=colour, alpha=0.25, linewidth=0.8)
        marker = "o" if len(values) == 1 else None
        ax.plot(
            images,
            values if smooth is None else smooth,
            color=colour,
            linewidth=1.5,
            label=label,
            marker=marker,
        )
        if scale == "log" and np.any(values > 0):
            ax.set_yscale("log")
    if len(curves) > 1:
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

"""The curves as a picture: what is in it, and that it can be read."""

import io
import itertools
from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pytest
from fastapi.testclient import TestClient
from matplotlib.figure import Figure
from PIL import Image

from service.api.panels import PANELS, chosen, words
from service.api.plots import STYLE, draw_figure, is_logarithmic, number, plot
from service.records.metrics import Series
from tests.service.api.conftest import Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

GAN = (
    *("loss/discriminator", "loss/generator", "loss/gradient_penalty", "loss/r1", "loss/r2"),
    *("output/real", "output/fake", "evaluation/output_held_out", "evaluation/output_trained"),
    *("gradient_norm/discriminator", "gradient_norm/generator", "learning_rate/discriminator"),
    *("learning_rate/generator", "score/fid", "score/kid", "score/inception_score", "score/precision"),
    *("score/recall", "score/class_kl", "score/modes", "rate/images_per_second", "ema/distance"),
    *("memory/peak_bytes", "augmentation/probability"),
)
DIFFUSION = ("loss/denoising", "evaluation/denoising_held_out", "evaluation/denoising_trained")


def curves(*keys: str, points: int = 50) -> dict[str, Series]:
    """Curves that all fall from 2 to 1 over 6,400 images a point."""
    steps = list(range(points))
    values: list[float | None] = [2 - step / max(1, points - 1) for step in steps]
    return {key: {"step": steps, "images": [6400 * step for step in steps], "value": values} for key in keys}


@pytest.fixture
def drawn() -> Iterator[Callable[..., Figure]]:
    with mpl.rc_context(STYLE):
        yield lambda series, best=None: draw_figure(series, "fashion", "dcgan on digits", best)


@SQLITE
def test_the_plot_is_a_picture_whatever_the_name(client: TestClient, train: Callable[..., Trained]) -> None:
    """A `$` in a name must not be read as a formula, and a job without points has a plot, too."""
    empty = client.post("/v1/jobs", json={"preset": "dcgan", "name": "$x^{"}).json()["id"]
    for job in (empty, train(name="50 $ and $\\frac", points=300).job):
        shown = client.get(f"/v1/jobs/{job}/metrics.png")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
        assert shown.content.startswith(b"\x89PNG")


@SQLITE
def test_a_plot_shows_the_chosen_curves(client: TestClient, trained: Trained) -> None:
    url = f"/v1/jobs/{trained.job}/metrics.png"
    whole, chosen_one = client.get(url), client.get(url, params={"keys": "loss/generator"})
    assert (chosen_one.status_code, chosen_one.headers["content-type"]) == (200, "image/png")
    assert chosen_one.content != whole.content
    assert client.get(url, params={"keys": "loss/unknown"}).status_code == 200


@pytest.mark.parametrize("keys", [(), GAN[:1], GAN[:6], GAN, DIFFUSION])
def test_a_plot_has_one_size_whatever_is_in_it(keys: tuple[str, ...]) -> None:
    """Breaks pages and dashboards that show the picture of a running job."""
    picture = Image.open(io.BytesIO(plot(curves(*keys), title="a", caption="b", best_images=6400)))
    assert picture.size == (1430, 1100)


@pytest.mark.parametrize("keys", [GAN, GAN[:9], DIFFUSION])
def test_no_text_lies_on_another(drawn: Callable[..., Figure], keys: tuple[str, ...]) -> None:
    """Breaks when a title, a legend or a number on an axis covers its neighbour's."""
    figure = drawn(curves(*keys), 64_000)
    figure.draw_without_rendering()
    boxes = {}
    for ax in figure.axes:
        labels = [ax._left_title, ax.xaxis.label, *ax.get_yticklabels()]  # type: ignore[attr-defined]
        texts = [*labels, *(ax.get_legend().get_texts() if ax.get_legend() else [])]
        low, high = ax.get_ylim()
        ticks = {id(label): place for label, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
        for text in texts:
            if text.get_text() and low <= ticks.get(id(text), low) <= high:
                boxes[text] = text.get_window_extent()
    for (one, here), (other, there) in itertools.combinations(boxes.items(), 2):
        assert not here.overlaps(there), f"{one.get_text()!r} and {other.get_text()!r}"
    for text, box in boxes.items():
        assert 0 <= box.x0 < box.x1 <= 1430, f"{text.get_text()!r} is cut off"


def test_a_legend_has_room_above_the_curves(drawn: Callable[..., Figure]) -> None:
    figure = drawn(curves("output/real", "output/fake", "evaluation/output_held_out"))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    legend, highest = ax.get_legend(), ax.transData.transform((0, 2.0))[1]
    assert legend is not None
    assert legend.get_window_extent().y0 > highest


def test_the_best_checkpoint_is_marked_in_every_panel(drawn: Callable[..., Figure]) -> None:
    series = curves("loss/generator", "score/fid")
    for ax in drawn(series, 64_000).axes:
        assert [list(line.get_xdata()) for line in ax.lines].count([64_000, 64_000]) == 1
        assert ax.get_xlim()[1] > 49 * 6400
    assert all(
        [64_000, 64_000] not in [list(line.get_xdata()) for line in ax.lines] for ax in drawn(series).axes
    )


def test_each_kind_of_curve_has_its_panel_and_new_ones_have_the_last() -> None:
    panels = {panel.title: keys for panel, keys in chosen([*GAN, *DIFFUSION, "health/new"])}
    assert set(panels) == {panel.title for panel in PANELS} | {"Others"}
    assert panels["Losses"][:2] == ["loss/discriminator", "loss/generator"]
    assert panels["Penalties, with their weight"] == ["loss/gradient_penalty", "loss/r1", "loss/r2"]
    assert panels["Others"] == ["health/new"]
    assert sorted(key for keys in panels.values() for key in keys) == sorted([*GAN, *DIFFUSION, "health/new"])
    assert chosen([]) == []


def test_a_legend_speaks_plainly() -> None:
    assert words("evaluation/output_held_out") == "real, held out"
    assert words("loss/consistency") == "consistency"
    assert not [word for word in map(words, (*GAN, *DIFFUSION)) if "_" in word or "/" in word]


def test_a_wide_range_is_logarithmic_and_a_sign_is_not() -> None:
    assert is_logarithmic("auto", np.array([1.0, 100.0]))
    assert not is_logarithmic("auto", np.array([1.0, 2.0]))
    assert not is_logarithmic("auto", np.array([-1.0, 100.0]))
    assert not is_logarithmic("log", np.array([0.0]))
    assert not is_logarithmic("linear", np.array([1.0, 1e9]))
    assert not is_logarithmic("auto", np.array([]))


def test_curves_of_no_numbers_are_drawn(drawn: Callable[..., Figure]) -> None:
    gone: Series = {"step": [1, 2], "images": [8, 16], "value": [None, None]}
    series = {"loss/generator": gone, "gradient_norm/generator": gone, "memory/peak_bytes": gone}
    assert len(drawn({**series, "score/precision": gone, "score/recall": gone}).axes) == 4


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0, 0.0002, 2.5e-5, 0.25, 2000, 795e6)] == [
        *("0", "0.0002", "2.5e-05", "0.25", "2000", "795M")
    ]

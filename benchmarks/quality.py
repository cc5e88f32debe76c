"""The best GAN preset against the classical recipe on Fashion-MNIST: Frechet distance, recall and time.

`python -m benchmarks.quality [BUDGET ...]`: 32 px, width 32, batch 64; each budget of images is a run of its
own with its own schedule, three seeds, the two presets at the same time on a core each. Each run is appended
to benchmarks/results/quality.json, and those that stand there already are not made again. The classical
generator is scored with the running statistics of its BatchNorm and with those of each batch, and keeps the
better of the two. The table is written into docs/benchmarks.md.
"""

import copy
import itertools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from benchmarks import page
from benchmarks.runs import ONE_THREAD, Results, Run, scorer_of, side_by_side, trained, workspace
from models import checkpoints
from models.data import open_dataset

RESULTS = Path(__file__).resolve().parent / "results" / "quality.json"
BEST, CLASSIC = "dcgan-r1", "dcgan-vanilla"
BUDGETS = (60_000, 150_000, 300_000)
SEEDS = (1, 2, 3)
SAMPLES = 10_000


def main() -> None:
    results = Results(RESULTS, ("preset", "images", "seed"))
    budgets = [int(word) for word in sys.argv[1:]] or BUDGETS
    left = [
        (preset, images, seed)
        for images, seed, preset in itertools.product(budgets, SEEDS, (CLASSIC, BEST))
        if not results.find(preset=preset, images=images, seed=seed)
    ]
    for run in side_by_side(lambda each: _run(*each), left):
        results.add(run)
        page.write("benchmarks.md", "quality", _table(results.runs))
    page.write("benchmarks.md", "quality", _table(results.runs))


def _run(preset: str, images: int, seed: int) -> Run:
    job = ONE_THREAD | {
        "preset": preset,
        "dataset": "fashion-mnist",
        "seed": seed,
        "budget": {"images": images},
        "evaluation": {"every_images": images, "samples": SAMPLES},
        "samples": {"every_images": images},
        "precision": "fp32",
    }
    run = trained(job, workspace(f"quality-{preset}-{images}-{seed}"))
    checkpoint = Path(run.pop("checkpoint"))
    run = {"preset": preset, "seed": seed, **run, "images": images, "batch_norm": "running"}
    if preset == CLASSIC:
        other = _scored_by_batch(checkpoint)
        if other["score/fid"] < run["scores"]["score/fid"]:
            run |= {"scores": other, "batch_norm": "batch"}
    return run


def _scored_by_batch(checkpoint: Path) -> dict[str, float]:
    """The scores when BatchNorm takes each batch's own statistics."""
    loaded = checkpoints.load(checkpoint)
    generator = copy.deepcopy(loaded.networks["generator"])
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    _, resolution, _ = loaded.spec.data.image_shape
    dataset = open_dataset(loaded.spec.dataset).at(resolution, 1)
    return scorer_of(loaded.spec, dataset)({"generator": generator}).scores


def _table(runs: list[Run]) -> list[str]:
    """Mean and range of each preset at each budget, and how their means compare."""
    lines = [f"| images | | `{CLASSIC}` | `{BEST}` | |", "|--:|---|--:|--:|--:|"]
    for images in BUDGETS:
        for title, read, compare in _ROWS:
            classic, best = (_values(runs, preset, images, read) for preset in (CLASSIC, BEST))
            if classic and best:
                compared = compare(statistics.mean(best), statistics.mean(classic))
                lines.append(f"| {images:,} | {title} | {_spread(classic)} | {_spread(best)} | {compared} |")
    return lines


def _values(runs: list[Run], preset: str, images: int, read: Callable[[Run], float]) -> list[float]:
    return [read(run) for run in runs if run["preset"] == preset and run["images"] == images]


def _times(best: float, classic: float) -> str:
    return f"× {best / classic:.2f}"


def _higher(best: float, classic: float) -> str:
    return f"{best - classic:+.2f}"


_ROWS: tuple[tuple[str, Callable[[Run], float], Callable[[float, float], str]], ...] = (
    ("FID", lambda run: run["scores"]["score/fid"], _times),
    ("recall", lambda run: run["scores"]["score/recall"], _higher),
    ("precision", lambda run: run["scores"]["score/precision"], _higher),
    ("CPU minutes", lambda run: run["cpu_minutes"], _times),
)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()

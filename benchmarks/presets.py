"""Trains every preset on Fashion-MNIST and writes the table and the grids of docs/presets.md.

`python -m benchmarks.presets [PRESET ...]`: each run is appended to benchmarks/results/presets.json, and
those that stand there already are not made again.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.runs import ONE_THREAD, Results, Run, measured, side_by_side, trained, workspace
from models import checkpoints
from models.presets import PRESETS
from models.sampling import generate
from models.sampling.pictures import encode, grid
from models.spec import DiffusionSpec, JobSpec
from models.spec.evaluation import EvaluationSpec, ExtractorKind, ScoreKind

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "presets.json"
PICTURES = ROOT / "docs" / "pictures"
SEED = 7
SMALLEST_SHARE = 0.03

IMAGES = {
    "dcgan": 400_000,
    "dcgan-vanilla": 400_000,
    "dcgan-r1": 350_000,
    "sngan-hinge": 450_000,
    "wgan": 450_000,
    "wgan-gp": 250_000,
    "rpgan-r1r2": 150_000,
    "dcgan-diffaugment": 300_000,
    "ddpm": 25_000,
    "edm": 27_000,
    "flow-dit": 62_000,
}
"""Real images shown: 10 to 20 minutes each on one core of a server of 2023."""


def main() -> None:
    results = Results(RESULTS, ("preset", "images", "seed"))
    names = sys.argv[1:] or PRESETS
    left = [name for name in names if not results.find(preset=name, images=IMAGES[name], seed=SEED)]
    for run in side_by_side(_run, left):
        results.add(run)
        _write_page(results.runs)
    _write_page(results.runs)


def _run(name: str) -> Run:
    run = trained(_job(name), workspace(f"presets-{name}"))
    loaded = checkpoints.load(Path(run.pop("checkpoint")))
    pictures = generate(loaded.networks, loaded.spec, range(40))
    (PICTURES / f"preset-{name}.png").write_bytes(encode(grid(pictures, columns=10, scale=2), "png"))
    measurement = measured(loaded, _evaluation(loaded.spec))
    scored = {"scores": dict(measurement.scores), "details": measurement.details}
    return {"preset": name, "seed": SEED, **run, **scored, "images": IMAGES[name]}


def _job(name: str) -> dict[str, Any]:
    """The preset as it is."""
    return ONE_THREAD | {
        "preset": name,
        "dataset": "fashion-mnist",
        "seed": SEED,
        "budget": {"images": IMAGES[name]},
        "data": {"held_out": 0.05},
        "evaluation": None,
    }


def _evaluation(spec: JobSpec) -> EvaluationSpec:
    """All scores; diffusion by the sampler that it names."""
    samples, sampler = 10_000, None
    if isinstance(spec, DiffusionSpec):
        samples, sampler = 2_000, spec.sampler.model_copy(update={"steps": 10})
    return EvaluationSpec(
        samples=samples, scores=tuple(ScoreKind), extractor=ExtractorKind.CLASSIFIER, sampler=sampler
    )


def _write_page(runs: list[Run]) -> None:
    rows = {run["preset"]: run for run in runs}
    lines = [
        "| preset | images | CPU minutes | FID | recall | precision | classes (smallest share) |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    grids = []
    for name in PRESETS:
        if name not in rows:
            continue
        lines.append(_row(name, rows[name]))
        grids += [f"**`{name}`**", "", f"![40 images of {name}](pictures/preset-{name}.png)", ""]
    page.write("presets.md", "presets", [*lines, "", *grids])


def _row(name: str, run: Run) -> str:
    scores, shares = run["scores"], run["details"]["class_histogram"].values()
    smallest = min(shares)
    classes = f"{sum(share >= SMALLEST_SHARE for share in shares)} of {len(shares)} ({smallest:.1%})"
    if smallest < SMALLEST_SHARE:
        classes += ": does not train at this budget"
    return (
        f"| `{name}` | {run['images']:,} | {run['cpu_minutes']:.0f} | {scores['score/fid']:.2f} | "
        f"{scores['score/recall']:.2f} | {scores['score/precision']:.2f} | {classes} |"
    )


if __name__ == "__main__":
    main()

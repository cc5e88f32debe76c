"""Conditional models on Fashion-MNIST: how many images are of the class that was asked for.

`python -m benchmarks.conditional [NAME ...]`: each model makes 200 images of every class, and the classifier
of the scores says what they are. Each run is appended to benchmarks/results/conditional.json and never made
twice.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import page
from benchmarks.runs import ONE_THREAD, Results, Run, scorer_of, side_by_side, trained, workspace
from models import checkpoints
from models.data import open_dataset
from models.sampling import generate
from models.spec import DiffusionSpec, JobSpec, SamplerSpec
from models.spec.evaluation import EvaluationSpec, ExtractorKind

RESULTS = Path(__file__).resolve().parent / "results" / "conditional.json"
SEED, EACH = 7, 200
JOBS: dict[str, dict[str, Any]] = {
    "gan": {"preset": "dcgan-r1", "budget": {"images": 450_000}},
    "diffusion": {"preset": "edm", "budget": {"images": 32_000}},
}
GUIDED = SamplerSpec(steps=10, guidance_scale=2.0)


def main() -> None:
    results = Results(RESULTS, ("name", "seed"))
    names = sys.argv[1:] or JOBS
    for run in side_by_side(_run, [name for name in names if not results.find(name=name, seed=SEED)]):
        results.add(run)
    page.write("benchmarks.md", "conditional", _table(results.runs))


def _table(runs: list[Run]) -> list[str]:
    lines = ["| model | images | CPU minutes | as asked for | worst class |", "|---|--:|--:|--:|---|"]
    for run in runs:
        worst = min(run["by_class"], key=run["by_class"].__getitem__)
        name = f"{run['name']}, `{JOBS[run['name']]['preset']}`"
        lines.append(
            f"| {name} | {run['images']:,} | {run['cpu_minutes']:.0f} | {run['accuracy']:.1%} | "
            f"{worst} {run['by_class'][worst]:.0%} |"
        )
    return lines


def _run(name: str) -> Run:
    job = (
        JOBS[name]
        | ONE_THREAD
        | {"dataset": "fashion-mnist", "seed": SEED, "conditional": {}, "evaluation": None}
    )
    run = trained(job, workspace(f"conditional-{name}"))
    loaded = checkpoints.load(Path(run.pop("checkpoint")))
    by_class = _shares(loaded.networks, loaded.spec)
    return {"name": name, "seed": SEED, **run} | {
        "by_class": by_class,
        "accuracy": round(sum(by_class.values()) / len(by_class), 4),
    }


def _shares(networks: dict[str, torch.nn.Module], spec: JobSpec) -> dict[str, float]:
    """For each class, the share of the images asked of it that the classifier takes for it."""
    dataset = open_dataset(spec.dataset)
    scored = spec.model_copy(update={"evaluation": EvaluationSpec(extractor=ExtractorKind.CLASSIFIER)})
    extractor = scorer_of(scored, dataset).extractor
    sampler = GUIDED if isinstance(spec, DiffusionSpec) else None
    shares = {}
    for label, title in enumerate(dataset.classes):
        images = generate(networks, spec, range(EACH), sampler=sampler, labels=[label] * EACH)
        found = extractor(images).logits_NK.argmax(dim=1)
        shares[title] = round(float((found == label).float().mean()), 3)
    return shares


if __name__ == "__main__":
    main()

"""How many evaluations of the network each sampler needs: FID of a trained model by all that fit it.

`python -m benchmarks.samplers CHECKPOINT ...` writes the table of docs/benchmarks.md. All make the
same 500 images, scored by the classifier of the model's dataset, which must be a built-in one. Each figure is
appended to benchmarks/results/samplers.json, and never made twice.
"""

import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from benchmarks import page
from benchmarks.runs import Results, Run, measured
from models import checkpoints
from models.sampling.samplers import evaluations
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec, sampler_errors
from models.spec.evaluation import EvaluationSpec, ExtractorKind, ScoreKind

RESULTS = Path(__file__).resolve().parent / "results" / "samplers.json"
EVALUATIONS = (5, 11, 21)
"""Odd, so that Heun's method, of 2·steps - 1, can spend them all."""
SAMPLES = 500


def main() -> None:
    results = Results(RESULTS, ("preset", "images", "sampler", "evaluations"))
    for path in map(Path, sys.argv[1:]):
        model = checkpoints.load(path)
        spec = model.spec
        if not isinstance(spec, DiffusionSpec):
            raise SystemExit(f"{path} is no diffusion model: a GAN has no sampler to choose.")
        for kind in SamplerKind:
            for count in EVALUATIONS:
                sampler = _spending(kind, count)
                wanted = {
                    "preset": spec.preset,
                    "images": model.images,
                    "sampler": kind,
                    "evaluations": count,
                }
                if sampler_errors(spec, sampler) or results.find(**wanted):
                    continue
                found = {"steps": sampler.steps, "samples": SAMPLES, "fid": _fid(model, sampler)}
                results.add({**wanted, **found})
                page.write("benchmarks.md", "samplers", _table(results.runs))


def _spending(kind: SamplerKind, count: int) -> SamplerSpec:
    """The sampler with as many steps as `count` evaluations allow."""
    fitting = (SamplerSpec(kind=kind, steps=steps) for steps in range(count, 0, -1))
    return next(sampler for sampler in fitting if evaluations(sampler) <= count)


def _fid(model: checkpoints.LoadedCheckpoint, sampler: SamplerSpec) -> float:
    evaluation = EvaluationSpec(
        samples=SAMPLES, scores=(ScoreKind.FID,), extractor=ExtractorKind.CLASSIFIER, sampler=sampler
    )
    return round(measured(model, evaluation).scores["score/fid"], 2)


def _table(runs: list[Run]) -> list[str]:
    lines = [
        "| model | images shown | sampler |" + "".join(f" {count} |" for count in EVALUATIONS),
        "|---|--:|---|" + "--:|" * len(EVALUATIONS),
    ]
    for (preset, images, sampler), rows in groupby(runs, key=itemgetter("preset", "images", "sampler")):
        fids = {run["evaluations"]: run["fid"] for run in rows}
        cells = "".join(f" {fids.get(count, '')} |" for count in EVALUATIONS)
        lines.append(f"| `{preset}` | {images:,} | `{sampler}` |{cells}")
    return lines


if __name__ == "__main__":
    main()

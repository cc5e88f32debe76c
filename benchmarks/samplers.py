"""How many evaluations of the network each sampler needs: FID of one trained model by all that fit it.

`python -m benchmarks.samplers CHECKPOINT.safetensors [SAMPLES]` prints a Markdown table. All make the same
number of images, 1,000 if none is said, from the same seeds, scored by the classifier of the model's dataset,
which must be a built-in one.
"""

import sys
from pathlib import Path

from benchmarks.runs import scorer_of
from models import checkpoints
from models.data import open_dataset
from models.sampling.samplers import evaluations
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec, sampler_errors
from models.spec.evaluation import EvaluationSpec, ExtractorKind, ScoreKind

EVALUATIONS = (5, 11, 21, 51)
"""Odd, so that Heun's method, of 2·steps - 1, can spend them all."""


def main() -> None:
    path, samples = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    model = checkpoints.load(path)
    if not isinstance(model.spec, DiffusionSpec):
        raise SystemExit(f"{path} is no diffusion model: a GAN has no sampler to choose.")
    lines = [
        f"`{model.spec.preset}` after {model.images:,} images, FID of {samples:,} images:",
        "",
        "| sampler |" + "".join(f" {count} |" for count in EVALUATIONS),
        "|---|" + "---:|" * len(EVALUATIONS),
    ]
    for kind in SamplerKind:
        asked = [_spending(kind, count) for count in EVALUATIONS]
        if any(sampler_errors(model.spec, sampler) for sampler in asked):
            continue
        cells = "".join(f" {_fid(model, sampler, samples):.2f} |" for sampler in asked)
        lines.append(f"| `{kind}` |{cells}")
    print("\n".join(lines))


def _spending(kind: SamplerKind, count: int) -> SamplerSpec:
    """The sampler with as many steps as `count` evaluations allow."""
    fitting = (SamplerSpec(kind=kind, steps=steps) for steps in range(count, 0, -1))
    return next(sampler for sampler in fitting if evaluations(sampler) <= count)


def _fid(model: checkpoints.LoadedCheckpoint, sampler: SamplerSpec, samples: int) -> float:
    evaluation = EvaluationSpec(
        samples=samples, scores=(ScoreKind.FID,), extractor=ExtractorKind.CLASSIFIER, sampler=sampler
    )
    spec = model.spec.model_copy(update={"evaluation": evaluation})
    channels, resolution, _ = spec.data.image_shape
    dataset = open_dataset(spec.dataset).at(resolution, channels)
    return scorer_of(spec, dataset)(model.networks).scores["score/fid"]


if __name__ == "__main__":
    main()

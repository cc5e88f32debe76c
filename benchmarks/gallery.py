"""The pictures of docs/sampling.md: what truncation, interpolation and image-to-image make of one model each.

`python -m benchmarks.gallery`: a GAN and a diffusion model learn the handwritten digits, a few minutes each,
and are not trained again while their files are there.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.runs import ONE_THREAD, side_by_side, trained, workspace
from models import checkpoints
from models.checkpoints import LoadedCheckpoint
from models.data import open_dataset
from models.sampling import Between, InitImages, generate
from models.sampling.pictures import animate, encode, grid
from models.spec import SamplerSpec

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
JOBS: dict[str, dict[str, Any]] = {
    "gan": {"preset": "dcgan-r1", "budget": {"images": 300_000}},
    "diffusion": {"preset": "ddpm", "network": {"channels": 16}, "budget": {"images": 60_000}},
}
# With what a worker would choose by timing: the pictures are to be the same again.
FIXED = ONE_THREAD | {"precision": "fp32", "memory_format": "contiguous"}
DIGITS = FIXED | {"dataset": "digits", "seed": 7, "conditional": {}, "evaluation": None}
SCALE = 3
FEW = SamplerSpec(steps=25)


def main(out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = PICTURES) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for _ in side_by_side(_train, JOBS):
        pass
    gan, diffusion = (_load(name) for name in JOBS)
    pictures = {
        "truncation": grid(_truncations(gan), columns=10, scale=SCALE),
        "interpolation": grid(_ways(gan, diffusion), columns=10, scale=SCALE),
        "strength": grid(_strengths(diffusion), columns=7, scale=SCALE),
    }
    for name, picture in pictures.items():
        (out / f"sampling-{name}.png").write_bytes(encode(picture))
    frames = _way(gan, 4, 48)
    enlarged = frames.repeat_interleave(6, dim=2).repeat_interleave(6, dim=3)
    (out / "sampling-interpolation.webp").write_bytes(animate(enlarged, "webp", 60))


def _truncations(gan: LoadedCheckpoint) -> Tensor:
    """A row each without truncation, at 0.9, 0.7 and 0.4: the same ten seeds, whose labels are 0 to 9."""
    rows = [
        generate(gan.networks, gan.spec, range(10, 20), truncation=threshold, labels=range(10))
        for threshold in (None, 0.9, 0.7, 0.4)
    ]
    return torch.cat(rows)


def _ways(gan: LoadedCheckpoint, diffusion: LoadedCheckpoint) -> Tensor:
    """Two rows of the GAN and two of the diffusion model, each from one seed to another."""
    return torch.cat([_way(model, label, 10) for model in (gan, diffusion) for label in (3, 4)])


def _way(model: LoadedCheckpoint, label: int, steps: int) -> Tensor:
    sampler = None if model.spec.family == "gan" else FEW
    origins = [Between(5, 6, step / (steps - 1)) for step in range(steps)]
    return generate(model.networks, model.spec, origins, sampler=sampler, labels=[label] * steps)


def _strengths(diffusion: LoadedCheckpoint) -> Tensor:
    """Three real sevens, each followed by what strengths of 0.1 to 1 make of it with the label 9."""
    dataset = open_dataset("digits").at(diffusion.spec.data.image_shape[1], 1)
    real = torch.from_numpy(np.array(dataset.images))[np.array(dataset.labels) == 7][:3]
    rows = []
    for image in real:
        rows.append(image[None])
        for strength in (0.1, 0.3, 0.5, 0.7, 0.85, 1.0):
            begun = InitImages(image[None], strength)
            made = generate(diffusion.networks, diffusion.spec, [5], sampler=FEW, labels=[9], init=begun)
            rows.append(made)
    return torch.cat(rows)


def _train(name: str) -> dict[str, Any]:
    folder = workspace(f"gallery-{name}")
    kept = folder / "run.json"
    if not kept.exists():
        kept.write_text(json.dumps(trained(JOBS[name] | DIGITS, folder)))
    return {"name": name, **json.loads(kept.read_text())}


def _load(name: str) -> LoadedCheckpoint:
    run = json.loads((workspace(f"gallery-{name}") / "run.json").read_text())
    return checkpoints.load(Path(run["checkpoint"]))


if __name__ == "__main__":
    typer.run(main)

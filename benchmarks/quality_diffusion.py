"""The diffusion presets against `denoising-diffusion-pytorch` on Fashion-MNIST: ten minutes on one core each.

`python -m benchmarks.quality_diffusion [NAME ...]` needs `pip install denoising-diffusion-pytorch`: its own
Unet of a like number of parameters, its GaussianDiffusion and its Trainer's settings (Adam 1e-4, averaged
weights, clipping at 1) at our batch size, sampled by its DDIM. All make 2,000 images in 20 evaluations of the
network or fewer, scored by one classifier. Each run is appended to benchmarks/results/quality_diffusion.json
and never made twice.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import page
from benchmarks.runs import ONE_THREAD, Results, Run, scorer_of, side_by_side, trained, workspace
from models.data import BatchStream, PackedDataset, open_dataset, split
from models.presets import plan

RESULTS = Path(__file__).resolve().parent / "results" / "quality_diffusion.json"
CLASSIC = "denoising-diffusion-pytorch"
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddpm": {"kind": "unipc", "steps": 20},
    "edm": {"kind": "heun", "steps": 10},
    "flow-dit": {"kind": "heun", "steps": 10},
}
"""At most 20 evaluations: Heun takes two a step."""
SECONDS = 600
SAMPLES, SEED, TIMED_STEPS = 2_000, 1, 30


def main() -> None:
    results = Results(RESULTS, ("name", "seed"))
    torch.set_num_threads(1)
    names = sys.argv[1:] or (CLASSIC, *SAMPLERS)
    for run in side_by_side(_run, [name for name in names if not results.find(name=name, seed=SEED)]):
        results.add(run)
    page.write("benchmarks.md", "quality_diffusion", _table(results.runs))


def _table(runs: list[Run]) -> list[str]:
    lines = ["| model | parameters | images shown | FID | recall | precision |", "|---|--:|--:|--:|--:|--:|"]
    for run in sorted(runs, key=lambda run: run["scores"]["score/fid"]):
        fid, recall, precision = (run["scores"][f"score/{name}"] for name in ("fid", "recall", "precision"))
        lines.append(
            f"| `{run['name']}` | {run['parameters']:,} | {run['images']:,} | "
            f"{fid:.2f} | {recall:.2f} | {precision:.2f} |"
        )
    return lines


def _run(name: str) -> Run:
    return {"name": name, "seed": SEED, **(_classic() if name == CLASSIC else _preset(name))}


def _preset(name: str) -> Run:
    """As many images as the measured rate makes of the ten minutes."""
    images = int(_rate(name) * SECONDS)
    run = trained(_job(name, {"images": images}, images), workspace(f"diffusion-{name}"))
    run.pop("checkpoint")
    return {"parameters": run.pop("parameters")["network"], **run}


def _job(name: str, budget: dict[str, int], scored_every: int) -> dict[str, Any]:
    evaluation = {"every_images": scored_every, "samples": SAMPLES, "sampler": SAMPLERS[name]}
    return ONE_THREAD | {
        "preset": name,
        "dataset": "fashion-mnist",
        "seed": SEED,
        "budget": budget,
        "evaluation": evaluation,
        "samples": {"every_images": scored_every},
    }


def _rate(name: str) -> float:
    """Images a second while it trains, by a short run of its own."""
    job = _job(name, {"steps": TIMED_STEPS}, 64 * TIMED_STEPS) | {"evaluation": None}
    return float(trained(job, workspace(f"rate-{name}"))["images_per_second"])


def _classic() -> Run:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    torch.manual_seed(SEED)
    dataset = open_dataset("fashion-mnist")
    trained_on, _ = split(dataset, 0.05)
    stream = BatchStream(dataset, 64, seed=SEED, indices=trained_on, value_range=(0, 1))
    network = Unet(dim=20, dim_mults=(1, 2, 4), channels=1)
    model = GaussianDiffusion(network, image_size=32, sampling_timesteps=20)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = EMA(model, beta=0.995, update_every=10)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        torch.autograd.backward(model(stream.next()[0]))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        images += 64
    seconds = time.perf_counter() - began
    return {
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "seconds": round(seconds, 1),
        "images": images,
        "scores": _scores(dataset, _sampled(average.ema_model)),
        "date": time.strftime("%Y-%m-%d"),
    }


@torch.no_grad()
def _sampled(model: Any) -> list[Tensor]:
    """2,000 images in [0, 1], as bytes."""
    parts = [model.sample(batch_size=100) for _ in range(SAMPLES // 100)]
    return [(part.clamp(0, 1) * 255).round().to(torch.uint8) for part in parts]


def _scores(dataset: PackedDataset, images: list[Tensor]) -> dict[str, float]:
    spec = plan(_job("ddpm", {"images": 64}, 64), lambda _: dataset.facts).spec
    return scorer_of(spec, dataset).of_images(images).scores


if __name__ == "__main__":
    main()

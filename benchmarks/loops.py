"""Training loops to time: Atelier's, a bare one of the same networks, and the classical one."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.data import BatchStream, open_dataset
from models.presets import plan
from models.spec import BUILTIN_DATASETS, GanSpec
from models.training.entry import build_recipe
from models.training.events import Progress
from models.training.loop import Trial, run
from models.training.settle import place_networks, settle

CPU = torch.device("cpu")
STEPS_A_TURN = 10
NOTHING = (torch.zeros(0, 1, 32, 32), torch.zeros(0, dtype=torch.long))


def settled(preset: str, **overrides: Any) -> GanSpec:
    """The preset at 32 x 32, width 32, batch 64 in float32, as fast as this machine does it."""
    raw = {"preset": preset, "dataset": "fashion-mnist", "seed": 1, "budget": {"steps": 10**6}}
    raw |= {
        "batch_size": 64,
        "precision": "fp32",
        "log_every_steps": STEPS_A_TURN,
        "evaluation": None,
        **overrides,
    }
    spec = settle(plan(raw, BUILTIN_DATASETS.get).spec, CPU, build_recipe)
    if not isinstance(spec, GanSpec):
        raise TypeError("only GANs are timed here")
    return spec


def stream(spec: GanSpec) -> BatchStream:
    """The loop's own stream, over enlarged digits: always there, and as fast as any set."""
    dataset = open_dataset("digits").at(32, 1)
    return BatchStream(dataset, spec.batch_size, seed=0, device=CPU)


def atelier(spec: GanSpec) -> Callable[[], None]:
    """A turn of the loop itself, with its stream, metrics and events."""
    folder = Path(tempfile.mkdtemp(prefix="atelier-benchmark-"))
    recipe = build_recipe(spec, CPU)
    events = run(spec, recipe, stream(spec), Trial(NOTHING, NOTHING), None, folder)

    def turn() -> None:
        event = next(events)
        while not (isinstance(event, Progress) and event.metrics):
            event = next(events)

    return turn


def bare(spec: GanSpec) -> Callable[[], None]:
    """The same updates written out: the least that torch can do, with nothing recorded."""
    networks = place_networks(spec, CPU)
    generator, discriminator = networks["generator"], networks["discriminator"]
    weights_d, weights_g = list(discriminator.parameters()), list(generator.parameters())
    settings: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    optimizer_d, optimizer_g = (
        torch.optim.Adam(weights_d, **settings),
        torch.optim.Adam(weights_g, **settings),
    )
    criterion = nn.BCELoss()
    images = stream(spec).next()[0]
    ones, zeros = torch.ones(len(images)), torch.zeros(len(images))

    def step() -> None:
        fakes = generator(torch.randn(len(images), spec.generator.nz))
        loss = criterion(discriminator(images), ones) + criterion(discriminator(fakes.detach()), zeros)
        torch.autograd.backward(loss, inputs=weights_d)
        optimizer_d.step()
        optimizer_d.zero_grad()
        torch.autograd.backward(criterion(discriminator(fakes), ones), inputs=weights_g)
        optimizer_g.step()
        optimizer_g.zero_grad()

    return lambda: _repeat(step)


def classical(spec: GanSpec) -> Callable[[], None]:
    """pytorch/examples' DCGAN loop, line for line: every gradient, every loss read at every step."""
    networks = place_networks(spec.model_copy(update={"memory_format": "contiguous"}), CPU)
    generator, discriminator = networks["generator"], networks["discriminator"]
    criterion = nn.BCELoss()
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    batches = _float_batches(spec)
    read: list[float] = []

    def step() -> None:
        discriminator.zero_grad()
        images = next(batches)
        label = torch.full((len(images),), 1.0)
        output = discriminator(images)
        error_real = criterion(output, label)
        error_real.backward()
        read.append(output.mean().item())
        fake = generator(torch.randn(len(images), spec.generator.nz, 1, 1))
        label.fill_(0.0)
        output = discriminator(fake.detach())
        error_fake = criterion(output, label)
        error_fake.backward()
        read.append(output.mean().item())
        optimizer_d.step()
        generator.zero_grad()
        label.fill_(1.0)
        output = discriminator(fake)
        error_g = criterion(output, label)
        error_g.backward()
        read.append(output.mean().item())
        optimizer_g.step()
        read[:] = [(error_real + error_fake).item(), error_g.item()]

    return lambda: _repeat(step)


def _float_batches(spec: GanSpec) -> Iterator[torch.Tensor]:
    """Ready-made batches: the classical loop pays nothing for its data."""
    images = torch.from_numpy(np.array(open_dataset("digits").at(32, 1).images)).float() / 127.5 - 1
    while True:
        for batch in torch.split(images, spec.batch_size):
            if len(batch) == spec.batch_size:
                yield batch


def _repeat(step: Callable[[], None]) -> None:
    for _ in range(STEPS_A_TURN):
        step()

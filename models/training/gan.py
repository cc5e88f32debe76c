"""The recipe of a GAN: a discriminator phase, then a generator phase on the same noise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.losses.adversarial import ADVERSARIAL
from models.spec import GanSpec, total_steps
from models.spec.optimizer import OptimizerSpec
from models.training.ema import Ema
from models.training.optimizer import LearningRate, build_optimizer
from models.training.recipe import Batch, Losses, Phase, Recipe


def gan_recipe(spec: GanSpec, networks: dict[str, nn.Module], noise: torch.Generator) -> Recipe:
    """Alternate one update of D and one of G (Goodfellow et al. 2014, algorithm 1).

    Both phases share one forward pass of G: its graph, built for D's phase, is walked in G's.
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    adversarial = ADVERSARIAL[spec.loss.kind, spec.discriminator.output]
    # With accumulation the graphs of all parts would lie in memory at once; then G runs again.
    shares_forward = spec.accumulation == 1

    def draw(images_BCHW: Tensor, labels_B: Tensor) -> Batch:
        shape = (len(images_BCHW), spec.generator.nz)
        latents_BZ = torch.randn(shape, generator=noise, device=images_BCHW.device)
        return {"images": images_BCHW, "latents": latents_BZ}

    def discriminator_loss(batch: Batch, step: int) -> Losses:
        with torch.set_grad_enabled(shares_forward):
            fakes_BCHW = generator(batch["latents"])
        if shares_forward:
            batch["fakes"] = fakes_BCHW
        real_B, fake_B = discriminator(batch["images"]), discriminator(fakes_BCHW.detach())
        loss = adversarial.discriminator(real_B, fake_B)
        return {"loss/discriminator": loss, "output/real": real_B.mean(), "output/fake": fake_B.mean()}

    def generator_loss(batch: Batch, step: int) -> Losses:
        fakes_BCHW = batch.pop("fakes") if shares_forward else generator(batch["latents"])
        return {"loss/generator": adversarial.generator(discriminator(fakes_BCHW))}

    def evaluate(
        held_out_BCHW: Tensor, held_out_B: Tensor, trained_BCHW: Tensor, trained_B: Tensor
    ) -> dict[str, Tensor]:
        """D's mean output: held-out far below trained-on means that D knows its images by heart."""
        outputs = {"held_out": held_out_BCHW, "trained": trained_BCHW}
        with _statistics_kept(discriminator):
            return {f"evaluation/output_{name}": discriminator(x).mean() for name, x in outputs.items()}

    return Recipe(
        networks=networks,
        phases=(
            _phase("discriminator", spec, discriminator, spec.optimizers.discriminator, discriminator_loss),
            _phase("generator", spec, generator, spec.optimizers.generator, generator_loss),
        ),
        draw=draw,
        evaluate=evaluate,
        sampling="generator",
        ema=Ema(generator, spec.ema) if spec.ema else None,
    )


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """BatchNorm judges by the batch, as in training, and has the same running statistics afterwards."""
    kept = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)


def _phase(
    name: str,
    spec: GanSpec,
    network: nn.Module,
    own: OptimizerSpec | None,
    loss: Callable[[Batch, int], Losses],
) -> Phase:
    optimizer = own or spec.optimizer
    return Phase(
        name=name,
        network=network,
        optimizer=build_optimizer(network, optimizer),
        learning_rate=LearningRate(optimizer, total_steps(spec)),
        loss=loss,
        clip_grad_norm=optimizer.clip_grad_norm,
        clip_grad_value=optimizer.clip_grad_value,
    )

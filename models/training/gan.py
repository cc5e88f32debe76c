"""The recipe of a GAN: a discriminator phase, lazy penalties, then a generator phase on the same noise."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from models.networks.spectral import add_spectral_norm, iterate_spectral_norms
from models.spec import GanSpec, total_steps
from models.spec.optimizer import OptimizerSpec
from models.spec.training import Precision
from models.training.ema import Ema
from models.training.gan_game import Game
from models.training.gan_penalties import WeightedPenalty
from models.training.optimizer import LearningRate, build_optimizer
from models.training.recipe import Batch, Losses, Phase, Recipe


def gan_recipe(spec: GanSpec, networks: dict[str, nn.Module], noise: torch.Generator) -> Recipe:
    """Alternate `discriminator_steps` updates of D and one of G (Goodfellow et al. 2014, algorithm 1).

    D's phase adds the penalties of every step to its loss; each lazy one is a phase of its own, with D's
    optimizer. Adds spectral norm to the networks that the spec asks it of.
    """
    generator, discriminator = networks["generator"], networks["discriminator"]
    # Ahead of optimizers and average, which take hold of the parameters that it makes.
    for network, normed in (
        (generator, spec.generator.spectral_norm),
        (discriminator, spec.discriminator.spectral_norm),
    ):
        if normed:
            add_spectral_norm(network)
    game = Game(spec, networks, noise)
    device_type = next(generator.parameters()).device.type
    return Recipe(
        networks=networks,
        phases=(
            *_discriminator_phases(spec, discriminator, game),
            _generator_phase(spec, generator, game),
        ),
        draw=game.draw,
        evaluate=game.evaluate,
        sampling="generator",
        ema=Ema(generator, spec.ema) if spec.ema else None,
        generators={"noise": noise},
        scaler=torch.amp.GradScaler(device_type) if spec.precision is Precision.FP16 else None,
        state=game.ada.state() if game.ada else {},
    )


def _discriminator_phases(spec: GanSpec, network: nn.Module, game: Game) -> tuple[Phase, ...]:
    """D's phase, and one for each lazy penalty: all update D by one optimizer."""
    penalties = [WeightedPenalty(penalty, game, total_steps(spec)) for penalty in spec.penalties]

    def loss(batch: Batch, step: int) -> Losses:
        losses = game.discriminator_loss(batch, step)
        for penalty in penalties:
            if penalty.spec.every == 1:
                losses |= penalty.loss(batch, step)
        return losses

    def constrain() -> None:
        if spec.discriminator.weight_clip is not None:
            _clip_weights(network, spec.discriminator.weight_clip)
        if spec.discriminator.spectral_norm:
            iterate_spectral_norms(network)

    def constrain_and_adjust() -> None:
        constrain()
        if game.ada:
            game.ada.adjust()

    own = spec.optimizers.discriminator or spec.optimizer
    phase = _phase("discriminator", spec, network, own, loss, rescaling=spec.lazy_rescaling or 1.0)
    lazy = [
        replace(
            phase,
            name=str(penalty.spec.kind),
            loss=penalty.loss,
            every=penalty.spec.every,
            after=constrain,
        )
        for penalty in penalties
        if penalty.spec.every > 1
    ]
    return replace(phase, after=constrain_and_adjust), *lazy


def _generator_phase(spec: GanSpec, network: nn.Module, game: Game) -> Phase:
    """G's phase. Its spectral norms are iterated behind the update: ahead of it, D's phase has built on them
    the graph that this one walks."""

    def constrain() -> None:
        if spec.generator.spectral_norm:
            iterate_spectral_norms(network)

    own = spec.optimizers.generator or spec.optimizer
    phase = _phase("generator", spec, network, own, game.generator_loss)
    return replace(phase, every=spec.discriminator_steps, after=constrain)


def _phase(
    name: str,
    spec: GanSpec,
    network: nn.Module,
    optimizer: OptimizerSpec,
    loss: Callable[[Batch, int], Losses],
    *,
    rescaling: float = 1.0,
) -> Phase:
    return Phase(
        name=name,
        network=network,
        optimizer=build_optimizer(network, optimizer, rescaling=rescaling),
        learning_rate=LearningRate(optimizer, total_steps(spec), rescaling),
        loss=loss,
        clip_grad_norm=optimizer.clip_grad_norm,
        clip_grad_value=optimizer.clip_grad_value,
    )


@torch.no_grad()
def _clip_weights(network: nn.Module, most: float) -> None:
    """All parameters, biases among them, as the code of Arjovsky et al. 2017 does."""
    for parameter in network.parameters():
        parameter.clamp_(-most, most)

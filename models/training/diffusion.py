"""The recipe of a diffusion model: one phase that learns to undo noise."""

import torch
from torch import Tensor, nn

from models.losses.denoising import weighted_mse
from models.spec import DiffusionSpec, total_steps
from models.spec.training import Precision
from models.training.ema import Ema
from models.training.optimizer import LearningRate, build_optimizer
from models.training.processes import PROCESSES
from models.training.recipe import Batch, Losses, Phase, Recipe

_EVALUATION_SEED = 0


def diffusion_recipe(spec: DiffusionSpec, networks: dict[str, nn.Module], noise: torch.Generator) -> Recipe:
    """Minimise the weighted squared error of what the network predicts of noised images.

    A conditional model is not told some of the labels, so that it also learns the images of all classes
    together (Ho & Salimans 2022, algorithm 1).
    """
    network = networks["network"]
    ema = Ema(network, spec.ema) if spec.ema else None
    device = next(network.parameters()).device
    process = PROCESSES[spec.noise_schedule.kind](spec, device)

    def drawn(images_BCHW: Tensor, labels_B: Tensor, source: torch.Generator) -> Batch:
        times_B = process.draw_times(len(images_BCHW), source)
        noise_BCHW = torch.randn(images_BCHW.shape, generator=source, device=source.device)
        batch = {"images": images_BCHW, "noise": noise_BCHW.to(device), "times": times_B.to(device)}
        if spec.conditional is not None:
            batch["labels"] = some_dropped(labels_B.to(device), spec, source)
        return batch

    def loss(batch: Batch, denoiser: nn.Module) -> Tensor:
        images_BCHW, noise_BCHW, times_B = batch["images"], batch["noise"], batch["times"]
        labels = (batch["labels"],) if "labels" in batch else ()
        noised_BCHW = process.inputs(images_BCHW, noise_BCHW, times_B)
        predicted_BCHW = denoiser(noised_BCHW, process.network_times(times_B), *labels)
        target_BCHW = process.target(images_BCHW, noise_BCHW, times_B)
        return weighted_mse(predicted_BCHW, target_BCHW, process.weight(times_B))

    def denoising_loss(batch: Batch, step: int) -> Losses:
        return {"loss/denoising": loss(batch, network)}

    def evaluate(
        held_out_BCHW: Tensor, held_out_B: Tensor, trained_BCHW: Tensor, trained_B: Tensor
    ) -> dict[str, Tensor]:
        """The loss at fixed times and noise; held-out above trained-on means overfitting."""
        denoiser = ema.network if ema else network
        was_training = denoiser.training
        denoiser.eval()  # no dropout
        groups = {"held_out": (held_out_BCHW, held_out_B), "trained": (trained_BCHW, trained_B)}
        losses = {
            f"evaluation/denoising_{name}": loss(
                drawn(images, labels, torch.Generator().manual_seed(_EVALUATION_SEED)), denoiser
            )
            for name, (images, labels) in groups.items()
        }
        denoiser.train(was_training)
        return losses

    phase = Phase(
        name="network",
        network=network,
        optimizer=build_optimizer(network, spec.optimizer),
        learning_rate=LearningRate(spec.optimizer, total_steps(spec)),
        loss=denoising_loss,
        clip_grad_norm=spec.optimizer.clip_grad_norm,
        clip_grad_value=spec.optimizer.clip_grad_value,
    )
    return Recipe(
        networks=networks,
        phases=(phase,),
        draw=lambda images_BCHW, labels_B: drawn(images_BCHW, labels_B, noise),
        evaluate=evaluate,
        sampling="network",
        ema=ema,
        generators={"noise": noise},
        scaler=torch.amp.GradScaler(device.type) if spec.precision is Precision.FP16 else None,
    )


def some_dropped(labels_B: Tensor, spec: DiffusionSpec, source: torch.Generator) -> Tensor:
    """Labels, each with probability `label_dropout` replaced by the number of classes: no label."""
    if spec.conditional is None or spec.conditional.classes is None or spec.conditional.label_dropout is None:
        raise ValueError("the spec is not resolved: a field of conditional is missing")
    chances_B = torch.rand(len(labels_B), generator=source, device=source.device).to(labels_B.device)
    return labels_B.masked_fill(chances_B < spec.conditional.label_dropout, spec.conditional.classes)

"""The recipe of a diffusion model: one phase that learns to undo noise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses.denoising import TARGETS, noised
from models.networks.noise_schedule import noise_scheduler
from models.spec import DiffusionSpec, total_steps
from models.training.ema import Ema
from models.training.optimizer import LearningRate, build_optimizer
from models.training.recipe import Batch, Losses, Phase, Recipe

_EVALUATION_SEED = 0


def diffusion_recipe(spec: DiffusionSpec, networks: dict[str, nn.Module], noise: torch.Generator) -> Recipe:
    """Minimise the mean squared error of the prediction (Ho et al. 2020, algorithm 1)."""
    network = networks["network"]
    ema = Ema(network, spec.ema) if spec.ema else None
    if spec.loss.prediction is None:
        raise ValueError("the spec is not resolved: loss.prediction is missing")
    target = TARGETS[spec.loss.prediction]
    device = next(network.parameters()).device
    alphas_cumprod_T = noise_scheduler(spec).alphas_cumprod.to(device)

    def drawn(images_BCHW: Tensor, source: torch.Generator) -> Batch:
        timesteps_B = torch.randint(
            len(alphas_cumprod_T), (len(images_BCHW),), generator=source, device=source.device
        )
        noise_BCHW = torch.randn(images_BCHW.shape, generator=source, device=source.device)
        return {"images": images_BCHW, "noise": noise_BCHW.to(device), "timesteps": timesteps_B.to(device)}

    def loss(batch: Batch, denoiser: nn.Module) -> Tensor:
        images_BCHW, noise_BCHW, timesteps_B = batch["images"], batch["noise"], batch["timesteps"]
        alphas_B = alphas_cumprod_T[timesteps_B]
        predicted_BCHW = denoiser(noised(images_BCHW, noise_BCHW, alphas_B), timesteps_B)
        return F.mse_loss(predicted_BCHW.float(), target(images_BCHW, noise_BCHW, alphas_B))

    def denoising_loss(batch: Batch, step: int) -> Losses:
        return {"loss/denoising": loss(batch, network)}

    def evaluate(
        held_out_BCHW: Tensor, held_out_B: Tensor, trained_BCHW: Tensor, trained_B: Tensor
    ) -> dict[str, Tensor]:
        """The loss at fixed times and noise; held-out above trained-on means overfitting."""
        denoiser = ema.network if ema else network
        was_training = denoiser.training
        denoiser.eval()  # no dropout
        losses = {
            f"evaluation/denoising_{name}": loss(
                drawn(images, torch.Generator().manual_seed(_EVALUATION_SEED)), denoiser
            )
            for name, images in {"held_out": held_out_BCHW, "trained": trained_BCHW}.items()
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
    )
    return Recipe(
        networks=networks,
        phases=(phase,),
        draw=lambda images_BCHW, labels_B: drawn(images_BCHW, noise),
        evaluate=evaluate,
        sampling="network",
        ema=ema,
    )

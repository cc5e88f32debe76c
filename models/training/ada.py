"""The probability of a discriminator's augmentations, which follows how far it overfits."""

import torch
from torch import Tensor

from models.spec.augmentation import DiscriminatorAugmentationSpec

INTERVAL = 4
"""Steps between two adjustments (Karras et al. 2020, section 3.2)."""


class Ada:
    """Adaptive discriminator augmentation (Karras et al. 2020, StyleGAN2-ADA, section 3.2).

    Every 4 steps, r_t = E[sign D(real)] of their images is compared with the target, and the probability p
    moves by images / `adjustment_images` towards more augmentation where D overfits (r_t above the target),
    and towards less where it does not. All numbers stay on the device and are changed in place.
    """

    def __init__(
        self, spec: DiscriminatorAugmentationSpec, batch_size: int, device: torch.device | str
    ) -> None:
        """Raises ValueError while `target` or `adjustment_images` is open."""
        if spec.target is None or spec.adjustment_images is None:
            raise ValueError("ada's target and adjustment_images are open: resolve the spec first")
        self.probability = torch.zeros((), device=device)
        self._target = spec.target
        self._move = batch_size * INTERVAL / spec.adjustment_images
        self._signs = torch.zeros((), device=device)
        self._outputs = torch.zeros((), device=device)
        self._steps = torch.zeros((), device=device)

    @torch.no_grad()
    def observe(self, real_outputs_B: Tensor) -> None:
        """D's logits of augmented real images; several times a step where the batch comes in parts."""
        self._signs += real_outputs_B.sign().sum()
        self._outputs += real_outputs_B.numel()

    @torch.no_grad()
    def adjust(self) -> None:
        """Once a step: at every fourth, move the probability, which stays in [0, 1], and observe anew."""
        self._steps += 1
        due = self._steps >= INTERVAL
        overfitting = self._signs / self._outputs.clamp(min=1)
        direction = torch.sign(overfitting - self._target)
        # Without a branch on `due`, which would wait for the device.
        self.probability.add_(due * direction * self._move).clamp_(0, 1)
        for observed in (self._signs, self._outputs, self._steps):
            observed.mul_(~due)

    def state(self) -> dict[str, Tensor]:
        """The tensors that change, to be stored and to be restored in place."""
        return {
            "ada/probability": self.probability,
            "ada/signs": self._signs,
            "ada/outputs": self._outputs,
            "ada/steps": self._steps,
        }

"""The penalties of a GAN as terms of D's loss, or lazily, as updates of their own."""

import math

from models.losses.penalties import PENALTIES
from models.spec.gan import PenaltySpec
from models.training.gan_game import Game
from models.training.recipe import Batch, Losses


class WeightedPenalty:
    """A penalty times its weight at a step.

    It is taken where D looks, at augmented images, and is of D's slope in the images before they are
    augmented, as StyleGAN2-ADA's code takes R1. A lazy one, due every k-th step, weighs k times as much
    (Karras et al. 2020, StyleGAN2, appendix B).
    """

    def __init__(self, spec: PenaltySpec, game: Game, steps: int) -> None:
        self.spec, self._game, self._steps = spec, game, steps

    def weight(self, step: int) -> float:
        """From `weight` at step 1 to `final_weight` at the last, along half a cosine."""
        first, last = self.spec.weight, self.spec.final_weight
        if first is None:
            raise ValueError("the spec is not resolved: the weight of a penalty is missing")
        if last is None:
            return first
        done = (step - 1) / max(1, self._steps - 1)
        return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * done))

    def loss(self, batch: Batch, step: int) -> Losses:
        """From a batch that D's phase of the step has been through: it holds the images made there."""
        value = PENALTIES[self.spec.kind](
            lambda images_BCHW: self._game.judged(batch, images_BCHW),
            batch["images"],
            batch["fakes"],
            batch["mix"],
        )
        return {f"loss/{self.spec.kind}": self.weight(step) * self.spec.every * value}

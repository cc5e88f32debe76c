"""What the two networks of a GAN do with a batch: images are made, shown, judged, and the game is scored."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.data.differentiable import augmented, draw_numbers
from models.losses.adversarial import ADVERSARIAL
from models.spec import GanSpec
from models.spec.augmentation import DiscriminatorAugmentationKind
from models.spec.gan import DiscriminatorOutput
from models.training.ada import Ada
from models.training.recipe import Batch, Losses


class Game:
    """Both players' losses, without penalties.

    Real and made images go through D apart, so that BatchNorm sees either kind alone (Radford et al. 2016).
    Images made for D's phase are left in the batch as `fakes`, for the phases that follow in the step.
    """

    def __init__(self, spec: GanSpec, networks: dict[str, nn.Module], noise: torch.Generator) -> None:
        self._spec, self._noise = spec, noise
        self._generator, self._discriminator = networks["generator"], networks["discriminator"]
        self._adversarial = ADVERSARIAL[spec.loss.kind, spec.discriminator.output]
        self.ada: Ada | None = None
        augmentation = spec.discriminator_augmentation
        if augmentation is not None and augmentation.kind is DiscriminatorAugmentationKind.ADA:
            device = next(self._discriminator.parameters()).device
            self.ada = Ada(augmentation, spec.batch_size, device)

    def draw(self, images_BCHW: Tensor, labels_B: Tensor) -> Batch:
        """All that is random in a step: latents, mixtures for the penalties, numbers of the augmentation."""
        count, device = len(images_BCHW), images_BCHW.device
        latents_BZ = torch.randn((count, self._spec.generator.nz), generator=self._noise, device=device)
        batch = {"images": images_BCHW, "latents": latents_BZ}
        if self._spec.conditional is not None:
            batch["labels"] = labels_B
        if self._spec.penalties:
            batch["mix"] = torch.rand(count, generator=self._noise, device=device)
        if self._spec.discriminator_augmentation is not None:
            batch["numbers"] = draw_numbers(count, self._noise, device)
        return batch

    def judged(self, batch: Batch, images_BCHW: Tensor) -> Tensor:
        """D's outputs (B,), in at least float32, of images as it is shown them.

        Whatever they are, images of a batch are augmented by the same numbers and have the same labels.
        """
        augmentation = self._spec.discriminator_augmentation
        if augmentation is not None:
            probability = self.ada.probability if self.ada else None
            low = float(self._spec.data.range[0])
            images_BCHW = augmented(images_BCHW, batch["numbers"], augmentation.policy, probability, low)
        return self._outputs(images_BCHW, batch.get("labels"))

    def discriminator_loss(self, batch: Batch, step: int) -> Losses:
        """Of D, from the batch's images and as many that G makes."""
        with torch.set_grad_enabled(self._shares_images(step)):
            fakes_BCHW = batch["fakes"] = self._made(batch)
        real_B, fake_B = self.judged(batch, batch["images"]), self.judged(batch, fakes_BCHW.detach())
        losses = {
            "loss/discriminator": self._adversarial.discriminator(real_B, fake_B),
            "output/real": real_B.mean(),
            "output/fake": fake_B.mean(),
        }
        if self.ada:
            is_probability = self._spec.discriminator.output is DiscriminatorOutput.SIGMOID
            self.ada.observe(real_B.detach() - (0.5 if is_probability else 0.0))
            losses["augmentation/probability"] = self.ada.probability
        return losses

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """Of G, from the images that D's phase was shown, or the same made again."""
        fakes_BCHW = batch.pop("fakes") if self._shares_images(step) else self._made(batch)
        fake_B = self.judged(batch, fakes_BCHW)
        real_B = fake_B.new_empty(0)
        if self._adversarial.needs_real:
            with torch.no_grad():
                real_B = self.judged(batch, batch["images"])
        return {"loss/generator": self._adversarial.generator(real_B, fake_B)}

    def evaluate(
        self, held_out_BCHW: Tensor, held_out_B: Tensor, trained_BCHW: Tensor, trained_B: Tensor
    ) -> dict[str, Tensor]:
        """D's mean output: held-out far below trained-on means that D knows its images by heart."""
        conditional = self._spec.conditional is not None
        groups = {"held_out": (held_out_BCHW, held_out_B), "trained": (trained_BCHW, trained_B)}
        with _on_trial(self._discriminator):
            return {
                f"evaluation/output_{name}": self._outputs(images, labels if conditional else None).mean()
                for name, (images, labels) in groups.items()
            }

    def _shares_images(self, step: int) -> bool:
        """Whether G's graph, built for D's phase, is walked in G's: one forward pass of G less.

        With accumulation the graphs of all parts would lie in memory at once.
        """
        return self._spec.accumulation == 1 and step % self._spec.discriminator_steps == 0

    def _made(self, batch: Batch) -> Tensor:
        fakes_BCHW: Tensor = self._generator(batch["latents"], batch.get("labels"))
        return fakes_BCHW

    def _outputs(self, images_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        outputs_B: Tensor = self._discriminator(images_BCHW, labels_B)
        return outputs_B.to(torch.promote_types(outputs_B.dtype, torch.float32))


@contextmanager
def _on_trial(network: nn.Module) -> Iterator[None]:
    """BatchNorm judges by the batch, as in training, and has the same running statistics afterwards.

    Nothing is dropped: it would be drawn from the numbers that training goes on with.
    """
    kept = [buffer.clone() for buffer in network.buffers()]
    dropping = [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.training]
    try:
        for layer in dropping:
            layer.eval()
        yield
    finally:
        for layer in dropping:
            layer.train()
        for buffer, value in zip(network.buffers(), kept, strict=True):
            buffer.copy_(value)

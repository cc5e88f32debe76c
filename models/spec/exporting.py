"""What a checkpoint can be downloaded as, and which models have no diffusers pipeline."""

from enum import StrEnum

from models.spec.diffusion import IN_TIMESTEPS, DiffusionSpec, UnetSpec
from models.spec.job import JobSpec


class ExportFormat(StrEnum):
    SAFETENSORS = "safetensors"  # the stored file itself: every weight, the spec in its metadata
    DIFFUSERS = "diffusers"  # a pipeline's folder
    ONNX = "onnx"  # the network that samples
    TORCH_EXPORT = "torch_export"  # the same as a program that torch.export.load takes
    CARD = "card"  # what the other archives hold beside their model: README.md and samples.png


def foreign_to_diffusers(spec: JobSpec) -> str | None:
    """What of the model no pipeline for one unconditional UNet can sample; None where one can."""
    if not isinstance(spec, DiffusionSpec):
        return "a GAN's generator"
    if not isinstance(spec.network, UnetSpec):
        return f"a network of kind {spec.network.kind}"
    if spec.noise_schedule.kind not in IN_TIMESTEPS:
        return f"a noise schedule of kind {spec.noise_schedule.kind}"
    if spec.conditional is not None:
        return "a UNet with labels"
    return None

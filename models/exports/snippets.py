"""The Python that loads a model in each format and makes something with it, as its card shows it."""

import math
from dataclasses import dataclass

from models.exports.programs import ONNX_FILE, PROGRAM_FILE, SPEC_FILE, UNET_BATCH, output_name
from models.networks import SAMPLING_NETWORKS
from models.spec import DiffusionSpec, JobSpec
from models.spec.diffusion import NoiseScheduleKind, Prediction, UnetSpec
from models.spec.exporting import ExportFormat, foreign_to_diffusers

_TIMES = {
    NoiseScheduleKind.EDM: "c_noise = ln(σ) / 4, and `images` are scaled by c_in = 1 / √(σ² + sigma_data²) "
    "(Karras et al. 2022, table 1)",
    NoiseScheduleKind.FLOW: "1000 for noise down to 0 for an image",
}
_PREDICTIONS = {
    Prediction.EPSILON: "the noise",
    Prediction.V: "v = √ᾱ·noise - √(1-ᾱ)·image",
    Prediction.X0: "the image",
}


@dataclass(frozen=True)
class Snippet:
    about: str
    code: str


def snippets(spec: JobSpec) -> dict[ExportFormat, Snippet]:
    """One for each format that this model can be had in, but the card alone."""
    found = {ExportFormat.SAFETENSORS: _safetensors(spec)}
    if foreign_to_diffusers(spec) is None:
        found[ExportFormat.DIFFUSERS] = _diffusers()
    return {**found, ExportFormat.ONNX: _onnx(spec), ExportFormat.TORCH_EXPORT: _program(spec)}


def _safetensors(spec: JobSpec) -> Snippet:
    name = SAMPLING_NETWORKS[spec.family]
    about = (
        f"Every weight; the images are made by `ema.{name}.…`, or `{name}.…` where none were averaged. "
        "The spec is in the metadata."
    )
    code = f"""\
import json
from safetensors import safe_open

with safe_open("checkpoint.safetensors", framework="pt") as file:
    spec = json.loads(file.metadata()["atelier"])["spec"]
    weights = {{key: file.get_tensor(key) for key in file.keys()}}
averaged = any(key.startswith("ema.") for key in weights)
prefix = "ema.{name}." if averaged else "{name}."
network = {{key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}}"""
    return Snippet(about, code)


def _diffusers() -> Snippet:
    about = "The same seed makes the same image as in Atelier. This is its sampler `ddim` in 20 steps."
    code = """\
import torch
from diffusers import DDIMPipeline

pipeline = DDIMPipeline.from_pretrained(".")
options = {"num_inference_steps": 20, "use_clipped_model_output": True}
image = pipeline(generator=[torch.Generator().manual_seed(1)], **options).images[0]"""
    return Snippet(about, code)


def _onnx(spec: JobSpec) -> Snippet:
    names = ", ".join(f'"{name}": {name}.numpy()' for name in _input_names(spec))
    code = f"""\
import onnxruntime
import torch

{_inputs(spec)}
session = onnxruntime.InferenceSession("{ONNX_FILE}")
{output_name(spec)} = session.run(None, {{{names}}})[0]"""
    return Snippet(f"{_meaning(spec)} The spec is in the metadata.", code)


def _program(spec: JobSpec) -> Snippet:
    code = f"""\
import torch

{_inputs(spec)}
network = torch.export.load("{PROGRAM_FILE}").module()
{output_name(spec)} = network({", ".join(_input_names(spec))})"""
    few = isinstance(spec, DiffusionSpec) and isinstance(spec.network, UnetSpec)
    bound = f" At most {UNET_BATCH} images at a time." if few else ""
    return Snippet(f"{_meaning(spec)} The spec is in its extra file `{SPEC_FILE}`.{bound}", code)


def _input_names(spec: JobSpec) -> list[str]:
    first = ["images", "time"] if isinstance(spec, DiffusionSpec) else ["latents"]
    return first if spec.conditional is None else [*first, "labels"]


def _inputs(spec: JobSpec) -> str:
    """Lines that make the inputs of one image, from the noise that Atelier gives the seed 7."""
    noise = "torch.randn(1, {}, generator=torch.Generator().manual_seed(7))"
    if isinstance(spec, DiffusionSpec):
        shape = ", ".join(map(str, spec.data.image_shape))
        lines = [f"images = {noise.format(shape)}", f"time = torch.tensor([{_first_time(spec)}])"]
    else:
        lines = [f"latents = {noise.format(spec.generator.nz)}"]
    return "\n".join(lines if spec.conditional is None else [*lines, "labels = torch.tensor([0])"])


def _first_time(spec: DiffusionSpec) -> float:
    schedule = spec.noise_schedule
    if schedule.kind is NoiseScheduleKind.FLOW:
        return 1000.0
    if schedule.kind is NoiseScheduleKind.EDM:
        return math.log(schedule.sigma_max or 1) / 4
    return float((schedule.timesteps or 1) - 1)


def _meaning(spec: JobSpec) -> str:
    classes = None if spec.conditional is None else spec.conditional.classes
    if not isinstance(spec, DiffusionSpec):
        labels = "" if classes is None else f" and `labels` from 0 to {(classes or 1) - 1}"
        return f"The generator: `latents` of normal noise{labels} to `images` in {list(spec.data.range)}."
    labels = "" if classes is None else f" `labels` are classes from 0; {classes} stands for none."
    kind = spec.noise_schedule.kind
    time = _TIMES.get(kind, f"the timestep, up to {(spec.noise_schedule.timesteps or 1) - 1}")
    if kind is NoiseScheduleKind.EDM:
        returned = "F, with which the image is c_skip·x + c_out·F"
    elif kind is NoiseScheduleKind.FLOW:
        returned = "the velocity, noise minus image"
    else:
        returned = _PREDICTIONS[spec.loss.prediction or Prediction.EPSILON]
    return (
        "One evaluation of the network, of which a sampler makes many: noisy `images` and their "
        f"`time` ({time}) to the `prediction` ({returned}).{labels}"
    )

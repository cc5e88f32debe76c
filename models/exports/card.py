"""The model card, README.md as Hugging Face shows it: what of, how good, how to use it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.exports.snippets import snippets
from models.spec import DiffusionSpec, JobSpec
from models.spec.exporting import ExportFormat

LIBRARIES = {ExportFormat.DIFFUSERS: "diffusers", ExportFormat.ONNX: "onnx"}
"""Hugging Face's name of the library that loads a format, where it is not plain PyTorch."""

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!&~])")


@dataclass(frozen=True)
class Origin:
    """Where a model comes from; the hash is None where the dataset is no longer stored."""

    checkpoint: str
    step: int
    images: int
    dataset: str
    content_hash: str | None
    scores: Mapping[str, float]


def card(spec: JobSpec, origin: Origin, exported: ExportFormat) -> str:
    """README.md for a model in this format; it says how to use the others as well.

    The dataset's name is whatever its owner typed: nothing in it acts as YAML or Markdown.
    """
    return "\n".join(
        [
            *_front_matter(spec, origin, exported),
            f"# {origin.checkpoint}",
            "",
            _summary(spec, origin),
            "",
            "![Images from the seeds 0 to 15](samples.png)",
            "",
            *_scores(origin.scores),
            *_usage(spec),
            "## Spec",
            "",
            "Posted to `/v1/jobs` of an Atelier that has the dataset, it repeats the training.",
            "",
            "```json",
            json.dumps(spec.model_dump(mode="json"), indent=1),
            "```",
            "",
        ]
    )


def _front_matter(spec: JobSpec, origin: Origin, exported: ExportFormat) -> list[str]:
    conditional = spec.conditional is not None
    tags = ["atelier", spec.family, *(["class-conditional"] if conditional else [])]
    fields = {
        "library_name": LIBRARIES.get(exported, "pytorch"),
        "pipeline_tag": "unconditional-image-generation",  # the nearest one there is for labels, too
        "tags": tags,
        "dataset_name": _printable(origin.dataset),
        "dataset_content_hash": origin.content_hash,
    }
    # A JSON value is a YAML value.
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---", ""]


def _summary(spec: JobSpec, origin: Origin) -> str:
    channels, side, _ = spec.data.image_shape
    kind = "A diffusion model" if isinstance(spec, DiffusionSpec) else "A GAN"
    labels = "" if spec.conditional is None else f", of {spec.conditional.classes} classes"
    name = _MARKUP.sub(r"\\\1", _printable(origin.dataset))
    known = (
        f"content hash `{origin.content_hash}`" if origin.content_hash else "which is not stored any longer"
    )
    return (
        f"{kind} for {'grey' if channels == 1 else 'colour'} images of {side}×{side} pixels{labels}. "
        f"Trained for {origin.step:,} steps ({origin.images:,} images) on the dataset {name}, {known}."
    )


def _scores(scores: Mapping[str, float]) -> list[str]:
    if not scores:
        return ["It has not been measured.", ""]
    rows = [f"| `{name}` | {value:.4g} |" for name, value in sorted(scores.items())]
    return ["## Scores", "", "| score | value |", "|---|---|", *rows, ""]


def _usage(spec: JobSpec) -> list[str]:
    lines = ["## Use", ""]
    for exported, snippet in snippets(spec).items():
        lines += [f"### {exported}", "", snippet.about, "", "```python", snippet.code, "```", ""]
    return lines


def _printable(text: str) -> str:
    """On one line, and without characters that YAML refuses."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())

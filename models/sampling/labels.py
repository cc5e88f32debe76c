"""Which class each image of a conditional model shows."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from models.sampling.errors import SamplingError
from models.sampling.noise import Between, Origin
from models.spec import JobSpec


def labels_of(spec: JobSpec, origins: Sequence[Origin]) -> list[int] | None:
    """The classes that a conditional model shows where none are asked for; None of a model without labels.

    Each follows from its seed alone; between two seeds it is that of the first. As many seeds in a row as
    there are classes, the first a multiple of that, have every class once; the seeds of a coarser pattern,
    all even ones say, are spread over the classes by a hash.
    """
    if spec.conditional is None:
        return None
    classes = classes_of(spec)
    seeds = [origin.start if isinstance(origin, Between) else origin for origin in origins]
    return [(seed + _hash(seed // classes)) % classes for seed in seeds]


def _hash(number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"label/{number}".encode()).digest()[:8])


def classes_of(spec: JobSpec) -> int:
    if spec.conditional is None or spec.conditional.classes is None:
        raise ValueError("the spec is not resolved: conditional.classes is missing")
    return spec.conditional.classes


def label_tensor(spec: JobSpec, origins: Sequence[Origin], asked: Sequence[int] | None) -> Tensor | None:
    """Labels (N,) on the CPU, those asked for or each origin's own; None for a model without."""
    if spec.conditional is None:
        if asked is not None:
            raise SamplingError(
                "This model was trained without labels and makes no chosen class: leave labels out."
            )
        return None
    classes = classes_of(spec)
    if asked is None:
        return torch.tensor(labels_of(spec, origins), dtype=torch.long)
    if len(asked) != len(origins):
        raise SamplingError(
            f"There are {len(asked)} labels for {len(origins)} images: give one a seed, or none."
        )
    if wrong := [label for label in asked if not 0 <= label < classes]:
        raise SamplingError(
            f"Label {wrong[0]} is none of this model's: it has {classes} classes, 0 to {classes - 1}."
        )
    return torch.tensor(asked, dtype=torch.long)

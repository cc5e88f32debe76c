"""Whether a training can start from the weights of another."""

from typing import Any

from models.spec.fields import FieldError
from models.spec.job import JobSpec

_NETWORKS = ("generator", "discriminator", "network")
_FREE = {"init", "dropout", "spectral_norm", "weight_clip", "output"}
"""Of a network: what changes no stored weight's name or shape."""


def misfits(spec: JobSpec, stored: JobSpec) -> list[FieldError]:
    """The fields by which `spec` builds other networks than `stored`, both resolved; [] where they fit."""
    if spec.family != stored.family:
        return [
            FieldError("init_from", f"is a checkpoint of family {stored.family}, and this is {spec.family}")
        ]
    mine, theirs = (_architecture(each) for each in (spec, stored))
    return [
        FieldError(path, f"must be {theirs.get(path)!r}, as in the checkpoint of init_from; it is {value!r}")
        for path, value in mine.items()
        if theirs.get(path) != value
    ]


def _architecture(spec: JobSpec) -> dict[str, Any]:
    """By path, all that decides the names and shapes of weights."""
    channels, resolution, _ = spec.data.image_shape
    facts: dict[str, Any] = {
        "data.channels": channels,
        "data.resolution": resolution,
        "data.range": list(spec.data.range),
        "conditional.classes": spec.conditional and spec.conditional.classes,
    }
    for name in _NETWORKS:
        network = getattr(spec, name, None)
        if network is not None:
            fields = network.model_dump(mode="json")
            facts |= {f"{name}.{field}": value for field, value in fields.items() if field not in _FREE}
    return facts

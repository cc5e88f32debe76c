"""What tests of images ask of a small diffusion model, and where they look for what was made."""

from typing import Any

from service.records import images
from service.records.tables import ImageBatch
from worker.resources import Resources

TINY_DDPM: dict[str, Any] = {
    "preset": "ddpm",
    "generator": None,  # null takes what the tiny spec has of a GAN away, as in RFC 7396
    "discriminator": None,
    "network": {"channels": 8, "norm_groups": 4},
    "sampler": {"kind": "ddim", "steps": 2},
}


def row(resources: Resources, image_id: str) -> ImageBatch:
    with resources.database.read() as session:
        return images.get(session, image_id)


def pictures(resources: Resources, image_id: str) -> dict[int, bytes]:
    """The stored files by seed."""
    result = row(resources, image_id).result
    assert result is not None
    return {image["seed"]: resources.artifacts.read(image["artifact"]) for image in result["data"]}

"""An order's images as files: one each, the grid, the animation, the npz; and what a PNG tells of itself."""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.sampling import Between
from models.sampling.pictures import animate, archive, encode, grid, picture
from worker.batching import Order

Store = Callable[[bytes, str], object]
"""Stores bytes under a key."""


def store_images(order: Order, store: Store) -> dict[str, Any]:
    """Encode and store an order's images; the result names the artifacts."""
    request, folder, images = order.request, f"images/{order.image_id}", torch.stack(order.made)
    kind, quality, data = request["format"], request.get("quality"), _described(order)
    result: dict[str, Any] = {"data": data, "grid": None, "animation": None, "archive": None}
    if kind == "npz":
        result["archive"] = f"{folder}/images.npz"
        store(archive(images, **_columns(order)), result["archive"])
    else:
        for index, image in enumerate(data):
            image["artifact"] = f"{folder}/{index}.{kind}"
            told = _text(order, range(index, index + 1))
            store(encode(picture(images[index]), kind, told, quality), image["artifact"])
        if len(images) > 1 or request["layout"] == "grid":
            result["grid"] = f"{folder}/grid.{kind}"
            together = grid(images, **(request.get("grid") or {}))
            store(encode(together, kind, _text(order, range(len(images))), quality), result["grid"])
    if animation := request.get("animation"):
        result["animation"] = f"{folder}/animation.{animation['format']}"
        moving = animate(images, animation["format"], animation["frame_milliseconds"], quality)
        store(moving, result["animation"])
    return result


def init_image(request: Mapping[str, Any]) -> Tensor | None:
    """The image that an order begins with, uint8 (C, H, W); None where it is noise."""
    begun = request.get("init_image")
    if begun is None:
        return None
    with Image.open(io.BytesIO(base64.b64decode(begun["png"])), formats=("PNG",)) as image:
        pixels = np.array(image)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def _described(order: Order) -> list[dict[str, Any]]:
    """What the reply says of each image, whose file is named once it is stored."""
    labels: Sequence[int | None] = order.labels or [None] * len(order.seeds)
    described = []
    for index, (origin, label) in enumerate(zip(order.origins, labels, strict=True)):
        way = origin if isinstance(origin, Between) else None
        seed = origin if way is None else _own_seed(way)
        position = None if way is None else way.position
        described.append(
            {"index": index, "seed": seed, "label": label, "position": position, "artifact": None}
        )
    return described


def _own_seed(between: Between) -> int | None:
    """The seed whose image a point on the way is; only its ends are that."""
    return {0.0: between.start, 1.0: between.end}.get(between.position)


def _columns(order: Order) -> dict[str, Sequence[float]]:
    """What an npz file says of its images beside their pixels; of an interpolation its way, too."""
    columns: dict[str, Sequence[float]] = {
        "seeds": order.seeds,
        "labels": order.labels or [-1] * len(order.seeds),
    }
    ways = [origin for origin in order.origins if isinstance(origin, Between)]
    if ways:
        columns["to_seeds"] = [way.end for way in ways]
        columns["positions"] = [way.position for way in ways]
    return columns


def _text(order: Order, indices: range) -> dict[str, str] | None:
    """The text chunks of a PNG with these images: what makes them again, and nothing else."""
    request = order.request
    if not request.get("metadata", True):
        return None
    text = {"checkpoint": order.checkpoint.id}
    if order.sampler is not None:
        text["sampler"] = order.sampler.model_dump_json()
    if order.truncation is not None:
        text["truncation"] = repr(order.truncation)
    if order.strength is not None:
        text |= {"init_image": f"sha256:{request['init_image']['sha256']}", "strength": repr(order.strength)}
    if way := request.get("interpolate"):
        text["interpolate"] = json.dumps(way)
        text["step"] = ",".join(map(str, indices))
    else:
        text["seed"] = ",".join(str(order.seeds[i]) for i in indices)
    if order.labels is not None:
        text["label"] = ",".join(str(order.labels[i]) for i in indices)
    return text

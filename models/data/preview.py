"""A look at a packed set: a grid of its images, drawn without torch so that packing stays small."""

import math

import numpy as np
from PIL import Image

from models.data.packed import PackedDataset

SHOWN = 64
GAP = 2  # white pixels between the images and around them


def draw_preview(dataset: PackedDataset, shown: int = SHOWN) -> Image.Image:
    """At most `shown` images, spread evenly over the set so that every class has its share."""
    chosen = np.linspace(0, dataset.count - 1, min(shown, dataset.count)).round().astype(int)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    step = dataset.resolution + GAP
    canvas = np.full((dataset.channels, GAP + rows * step, GAP + columns * step), 255, np.uint8)
    for place, number in enumerate(chosen):
        y, x = (GAP + step * index for index in divmod(place, columns))
        canvas[:, y : y + dataset.resolution, x : x + dataset.resolution] = dataset.images[number]
    if dataset.channels == 1:
        return Image.fromarray(canvas[0])
    return Image.fromarray(np.ascontiguousarray(canvas.transpose(1, 2, 0)))

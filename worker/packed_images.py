"""A dataset's packed images on this machine."""

from pathlib import Path

from service.artifacts import Artifacts
from service.errors import NotFound


def packed_images(artifacts: Artifacts, dataset_id: str) -> Path:
    """The folder that `PackedDataset.open` reads; NotFound, which says so, where they are not stored."""
    try:
        return artifacts.local_folder(f"datasets/{dataset_id}/packed")
    except NotFound:
        raise NotFound(
            "dataset_missing",
            f"The images of the dataset {dataset_id} are not stored any more.",
            hint="Put a backup of the folder datasets in its place, or upload the images again.",
        ) from None

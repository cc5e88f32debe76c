"""Where a checkpoint's exports are stored: beside its weights, and deleted with them."""

import hashlib
import json

from models.spec.exporting import ExportFormat
from service.records.checkpoints import folder_of
from service.records.tables import Checkpoint

LAYOUT = 1
"""Raised when what is in an archive changes, so that those that are stored already are made anew."""


def export_key(checkpoint: Checkpoint, exported: ExportFormat) -> str:
    """Another key for other weights, and once there are new scores, which the card tells."""
    told = json.dumps([LAYOUT, checkpoint.sha256, checkpoint.scores], sort_keys=True)
    mark = hashlib.sha256(told.encode()).hexdigest()[:16]
    return f"{folder_of(checkpoint)}/export-{exported}-{mark}.zip"

"""The weights of a stored checkpoint on this machine, as they were when they were stored."""

from pathlib import Path

from models.checkpoint_folders import sha256_of
from service.artifacts import Artifacts
from service.errors import AtelierError


def weights(artifacts: Artifacts, key: str, sha256: str) -> Path:
    """Raises AtelierError where a bit of them has changed since: images would silently be others."""
    path = artifacts.local(key)
    if sha256_of(path) != sha256:
        raise AtelierError(
            "checkpoint_damaged",
            "The checkpoint's file is not what was stored: its sha256 is another one.",
            hint="Use another checkpoint of the job; look after the disk that holds the artifacts.",
        )
    return path

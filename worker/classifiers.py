"""The classifiers that score: trained once for a dataset at a resolution, and kept in the artifact store."""

from pathlib import Path

from service.artifacts import Artifacts
from service.errors import NotFound

FOLDER = "classifiers"


def stored(artifacts: Artifacts, otherwise: Path) -> Path:
    """A folder with all classifiers there are, not to be changed; `otherwise` is made where there is none."""
    try:
        return artifacts.local_folder(FOLDER)
    except NotFound:
        otherwise.mkdir(parents=True)
        return otherwise


def keep(artifacts: Artifacts, file: Path) -> Path:
    """Store a classifier under its own name; one that another run has stored meanwhile stays. The stored one.

    Scores by two classifiers cannot be compared, so that there is one, whoever was first. The file stays
    where it is: its trainer has yet to read it.
    """
    key = f"{FOLDER}/{file.name}"
    if not artifacts.exists(key):
        artifacts.put_bytes(file.read_bytes(), key)
    return artifacts.local(key)

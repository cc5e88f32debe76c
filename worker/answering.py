"""Answers what the API asks a worker with torch: what a spec weighs, a checkpoint as a diffusers folder."""

import logging
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.checkpoints import export_diffusers
from models.networks import count_parameters, training_memory_bytes
from models.presets import PRESETS, plan
from models.spec import load_spec
from models.spec.data import BUILTIN_DATASETS
from service.queue import reply
from service.records import checkpoints
from worker.failures import failure
from worker.resources import Resources
from worker.stored_weights import weights

logger = logging.getLogger(__name__)

HINT = "The sampling worker's log has the traceback."


def answer_describe(resources: Resources, spec: dict[str, Any], reply_to: str) -> None:
    _answer(resources, reply_to, lambda: describe(spec))


def answer_export(resources: Resources, checkpoint_id: str, reply_to: str) -> None:
    _answer(resources, reply_to, lambda: {"key": export(resources, checkpoint_id)})


def describe(spec: dict[str, Any]) -> dict[str, Any]:
    """Parameter counts and an estimate of the memory that training takes, without taking any."""
    loaded = load_spec(spec)
    return {"parameters": count_parameters(loaded), "memory_bytes": training_memory_bytes(loaded)}


def export(resources: Resources, checkpoint_id: str) -> str:
    """The artifact key of the zipped pipeline, which is made at the first request."""
    with resources.database.read() as session:
        checkpoint = checkpoints.get(session, checkpoint_id)
        artifact, sha256 = checkpoint.artifact, checkpoint.sha256
    key = f"{artifact.rpartition('/')[0]}/diffusers.zip"
    if resources.artifacts.exists(key):
        return key
    with tempfile.TemporaryDirectory(prefix="atelier-export-") as temporary:
        folder, archive = Path(temporary) / "pipeline", Path(temporary) / "diffusers.zip"
        folder.mkdir()
        export_diffusers(weights(resources.artifacts, artifact, sha256), folder)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:  # weights do not get smaller
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                packed.write(file, file.relative_to(folder))
        resources.artifacts.put_file(archive, key)
    return key


def warm_up() -> None:
    """Import, and once use, what an answer takes: the first question is then as quick as the next."""
    for preset in PRESETS.values():
        describe(plan({"preset": preset.name}, BUILTIN_DATASETS.get).spec.model_dump(mode="json"))


def _answer(resources: Resources, reply_to: str, work: Callable[[], dict[str, Any]]) -> None:
    try:
        answer = work()
    except Exception as error:
        logger.exception("a question could not be answered")
        answer = {"error": failure(error, code="not_answered", hint=HINT)}
    reply(resources.settings.redis_url, reply_to, answer)

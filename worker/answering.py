"""Answers what the API asks a worker with torch: what a spec weighs, a checkpoint in another format."""

import logging
from collections.abc import Callable
from typing import Any

from models.networks import count_parameters, training_memory_bytes
from models.presets import PRESETS, plan
from models.spec import load_spec
from models.spec.data import BUILTIN_DATASETS
from models.spec.exporting import ExportFormat
from service.queue import reply
from worker.exporting import export
from worker.failures import failure
from worker.resources import Resources

logger = logging.getLogger(__name__)

HINT = "The sampling worker's log has the traceback."


def answer_describe(resources: Resources, spec: dict[str, Any], reply_to: str) -> None:
    _answer(resources, reply_to, lambda: describe(spec))


def answer_export(resources: Resources, checkpoint_id: str, exported: str, reply_to: str) -> None:
    _answer(resources, reply_to, lambda: {"key": export(resources, checkpoint_id, ExportFormat(exported))})


def describe(spec: dict[str, Any]) -> dict[str, Any]:
    """Parameter counts and an estimate of the memory that training takes, without taking any."""
    loaded = load_spec(spec)
    return {"parameters": count_parameters(loaded), "memory_bytes": training_memory_bytes(loaded)}


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

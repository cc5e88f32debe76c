"""Evaluations on request: claims the one that waits longest, scores its checkpoint, records the scores."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.checkpoints import load
from models.data import PackedDataset
from models.metrics.classifier import classifier_key, train_classifier
from models.metrics.measurement import Measurement
from models.metrics.scorer import Scorer, open_extractor
from models.spec.evaluation import EvaluationSpec, ExtractorKind
from service.artifacts import Artifacts
from service.errors import Unavailable
from service.queue import evaluations_channel
from service.records import checkpoints, evaluations, jobs
from service.records.database import Database
from worker import classifiers
from worker.devices import resolve_device
from worker.failures import CHECKPOINT_DELETED, failure
from worker.narrator import bare_scores
from worker.packed_images import packed_images
from worker.renewal import Renewal
from worker.resources import Resources
from worker.stored_weights import weights
from worker.supervisor import worker_name

logger = logging.getLogger(__name__)

HINT = "The preparing worker's log has the traceback."
MEMORY_HINT = "Ask for fewer samples, or give the preparing worker more memory."


class Claim(NamedTuple):
    """A claimed evaluation: what to measure, of which stored weights, against which dataset."""

    evaluation_id: str
    attempt: int
    artifact: str
    sha256: str
    dataset_id: str
    request: Mapping[str, Any]


def evaluate(resources: Resources) -> None:
    """Measure the evaluation that has waited longest; nothing happens if none waits.

    While the database is away the row stays claimed: its lease runs out, and the reconciler queues it again.
    """
    claim = _claim(resources.database)
    if claim is None:
        return
    try:
        with Renewal(f"evaluation {claim.evaluation_id}", lambda: renew(resources.database, claim)):
            measured = measure(claim, resources)
    except Unavailable as error:
        logger.warning("evaluation %s: attempt %d is given up: %s", claim.evaluation_id, claim.attempt, error)
        return
    except Exception as error:
        logger.exception("evaluation %s failed", claim.evaluation_id)
        reason = failure(error, code="evaluation_failed", hint=HINT, memory_hint=MEMORY_HINT)
        with resources.database.transaction() as session:
            recorded = evaluations.fail(session, claim.evaluation_id, claim.attempt, reason)
    else:
        scores, details = bare_scores(measured.scores), measured.details
        with resources.database.transaction() as session:
            recorded = evaluations.finish(
                session, claim.evaluation_id, claim.attempt, scores=scores, details=details
            )
    if not recorded:
        logger.warning("evaluation %s: attempt %d was overtaken", claim.evaluation_id, claim.attempt)
    resources.publisher.announce(evaluations_channel(claim.evaluation_id))


def measure(claim: Claim, resources: Resources) -> Measurement:
    """What the training itself would have measured at this step, by the settings of the request."""
    loaded = load(weights(resources.artifacts, claim.artifact, claim.sha256))
    evaluation = EvaluationSpec.model_validate(claim.request)
    spec = loaded.spec.model_copy(update={"evaluation": evaluation})
    if evaluation.extractor is None:
        raise ValueError("the request is not resolved: its extractor is missing")
    # On a CPU the last bits of an image depend on it, and a last bit may become a byte.
    torch.set_num_threads(spec.threads or torch.get_num_threads())
    device = resolve_device(resources.settings.device)
    channels, resolution, _ = spec.data.image_shape
    packed = PackedDataset.open(packed_images(resources.artifacts, claim.dataset_id))
    images = packed.at(resolution, channels)
    classifier = None
    if evaluation.extractor is ExtractorKind.CLASSIFIER:
        classifier = _classifier(images, resources.artifacts)
    extractor = open_extractor(
        evaluation.extractor,
        classifier=classifier,
        inception=resources.settings.inception,
        device=device,
    )
    return Scorer(spec, images, extractor, ema=spec.ema is not None, device=device)(loaded.networks)


def renew(database: Database, claim: Claim) -> bool:
    """False when another worker has it; what is measured here is refused when it is recorded."""
    with database.transaction() as session:
        return bool(evaluations.renew(session, {claim.evaluation_id: claim.attempt}))


def _claim(database: Database) -> Claim | None:
    while True:
        with database.transaction() as session:
            row = evaluations.claim_next(session, worker_name())
            if row is None:
                return None
            stored = checkpoints.living(session, [row.checkpoint_id]).get(row.checkpoint_id)
            if stored is not None:
                dataset = jobs.get(session, stored.job_id).dataset
                return Claim(row.id, row.attempt, stored.artifact, stored.sha256, dataset, row.request)
            evaluations.fail(session, row.id, row.attempt, CHECKPOINT_DELETED)


def _classifier(images: PackedDataset, artifacts: Artifacts) -> Path:
    """The stored classifier of these images; it is trained first where there is none."""
    key = f"{classifiers.FOLDER}/{classifier_key(images)}"
    if artifacts.exists(key):
        return artifacts.local(key)
    with tempfile.TemporaryDirectory(prefix="atelier-classifier-") as folder:
        file = Path(folder) / classifier_key(images)
        train_classifier(images, file)
        return classifiers.keep(artifacts, file)

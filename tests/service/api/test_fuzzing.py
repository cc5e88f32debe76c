"""Requests made up from the OpenAPI document: no 500, and no reply that the document does not describe."""

import contextlib
from collections.abc import Callable

import hypothesis
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from models.spec.exporting import ExportFormat
from service.api.app import create_app
from service.artifacts import Artifacts
from service.records import checkpoints, evaluations
from service.records.database import Database
from service.records.exports import export_key
from service.settings import Settings
from tests.service.api.conftest import Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 6
BOUNDED = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
NO_WAITS = {
    "describe_seconds": 0.01,
    "wait_seconds": 0.01,
    "max_wait_seconds": 0.01,
    "max_json_bytes": 100_000,
}


def test_what_is_answered_is_what_is_described(
    settings: Settings, database: Database, artifacts: Artifacts, key: str, train: Callable[..., Trained]
) -> None:
    """Valid requests and invalid ones to every operation, half of them to objects that are there."""
    trained = train()
    request = {"scores": ["kid"], "samples": 10, "extractor": "classifier", "sampler": None, "seed": 0}
    with database.transaction() as session:
        evaluation = evaluations.create(session, trained.checkpoint, request)
        for exported in ExportFormat:  # there is no worker that would make them
            artifacts.put_bytes(b"zip", export_key(checkpoints.get(session, trained.checkpoint), exported))
    known = {
        "job_id": trained.job,
        "checkpoint_id": trained.checkpoint,
        "evaluation_id": evaluation.id,
        "dataset_id": "digits",
        "step": "20",
        "name": "ddpm",
    }
    document = schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(settings.model_copy(update=NO_WAITS))
    )
    document.config.update(headers={"Authorization": f"Bearer {key}"})
    operations = [result.ok() for result in document.get_all_operations()]
    tried = sum(_fuzz(operation, mode, known) for operation in operations for mode in GenerationMode)
    assert tried > 8 * len(operations)


def _fuzz(operation: schemathesis.APIOperation, mode: GenerationMode, known: dict[str, str]) -> int:
    """Sends made-up requests, and tells how many."""
    tried = 0

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @BOUNDED
    def call(case: schemathesis.Case) -> None:
        nonlocal tried
        tried += 1
        if tried % 2:
            case.path_parameters.update(
                (name, known.get(name, made)) for name, made in case.path_parameters.items()
            )
        case.call_and_validate(checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # an operation without inputs has no invalid ones
        call()
    return tried

"""What the service answers about evaluations."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.spec import SamplerSpec
from models.spec.evaluation import ExtractorKind, ScoreKind
from service.api.image_replies import DETAILS, SCORE_DETAILS
from service.api.replies import CHECKPOINT, EVALUATION, MOMENT, ErrorReply, Urls, example
from service.records.status import RequestStatus


class EvaluationOrder(BaseModel):
    """What is measured, with every choice written out."""

    scores: list[ScoreKind]
    samples: int
    extractor: ExtractorKind
    sampler: SamplerSpec | None
    seed: int


class EvaluationResult(BaseModel):
    """What was measured."""

    scores: dict[str, float | None] = Field(description="As a checkpoint's. Null where it was not finite.")
    details: dict[str, Any] = Field(description=DETAILS)


class EvaluationReply(BaseModel):
    """A checkpoint's images measured against the dataset's; `result` is filled once it has `succeeded`."""

    model_config = example(
        id=EVALUATION,
        object="evaluation",
        checkpoint_id=CHECKPOINT,
        status="succeeded",
        request={
            "scores": ["fid", "kid"],
            "samples": 1000,
            "extractor": "classifier",
            "sampler": None,
            "seed": 0,
        },
        result={"scores": {"fid": 12.3, "kid": 0.01}, "details": SCORE_DETAILS},
        error=None,
        created_at=MOMENT,
        started_at=MOMENT,
        finished_at=MOMENT,
        urls={"self": f"https://host/v1/evaluations/{EVALUATION}"},
    )
    id: str
    object: Literal["evaluation"] = "evaluation"
    checkpoint_id: str
    status: RequestStatus
    request: EvaluationOrder
    result: EvaluationResult | None
    error: ErrorReply | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: Urls

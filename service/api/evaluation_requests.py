"""What an evaluation may be asked for, and the complete order that a worker is given for it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.spec import DatasetFacts, FieldError, SamplerSpec, SpecError, resolve
from models.spec.evaluation import ExtractorKind, ScoreKind
from models.spec.fields import Seed
from models.spec.merge import merge
from service.api.problems import invalid
from service.api.stored_specs import of_another_version
from service.records.tables import Job

_PATH = "evaluation."
_MEASURING = ("scores", "samples", "extractor", "sampler", "seed")


class EvaluationRequest(BaseModel):
    """Changes to what the checkpoint's job measures with; where it measured nothing, to the usual.

    With nothing changed the scores are those that the training itself has measured, or would have.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    scores: Annotated[list[ScoreKind], Field(min_length=1)] | None = Field(
        None,
        description="What is measured. Left out: what the job measures, or all that the extractor allows.",
    )
    samples: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Images made for the scores: numbers of different `samples` cannot be compared."
    )
    extractor: ExtractorKind | None = Field(
        None, description="Source of the features; `classifier` needs a labelled dataset."
    )
    sampler: SamplerSpec | None = Field(
        None, description="Changes to the sampler that makes the images. For diffusion models alone."
    )
    seed: Seed | None = Field(None, description="Image i is made from this seed + i.")


EXAMPLES: dict[str, tuple[str, Any]] = {
    "own": ("As the job itself measures", {}),
    "more": ("FID and KID of more images", {"scores": ["fid", "kid"], "samples": 10000}),
    "inception": ("By Inception's features", {"extractor": "inception", "samples": 5000}),
}


def order(asked: EvaluationRequest, job: Job, facts: DatasetFacts) -> dict[str, Any]:
    """The request with every choice written out; what could not be measured is refused at once.

    The rules are those of a job's own `evaluation`: the job's spec is resolved anew with the asked one in it.
    """
    own, patch = job.spec.get("evaluation") or {}, asked.model_dump(mode="json", exclude_unset=True)
    kept = {name: own[name] for name in _MEASURING if own.get(name) is not None}
    if patch.get("extractor", own.get("extractor")) != own.get("extractor"):
        kept.pop("scores", None)  # another one may allow others
    try:
        plan = resolve({**job.spec, "evaluation": merge(kept, patch)}, lambda _: facts)
    except SpecError as error:
        mine = [
            FieldError(one.path.removeprefix(_PATH), one.message)
            for one in error.errors
            if one.path.startswith(_PATH)
        ]
        raise (invalid(mine) if mine else of_another_version(job.id, error)) from error
    evaluation = plan.spec.evaluation
    if evaluation is None or not evaluation.scores:
        message = "nothing would be measured: the dataset has no labels for a classifier; set inception"
        raise invalid({"extractor": message})
    return evaluation.model_dump(mode="json", include=set(_MEASURING))

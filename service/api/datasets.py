"""Sets of images: uploaded as archives, packed by a worker, listed, shown and deleted."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from models.spec.fields import Text, details
from service.api.dataset_replies import DatasetProgress, DatasetReply
from service.api.dependencies import Artifacts, Database, LinkMaker, Links, ListPage, Publisher, naming_cursor
from service.api.files import file_content, stored_file
from service.api.idempotency import REUSED, IdempotencyHeader
from service.api.problems import field_errors, invalid, responses
from service.api.replies import Listing, listing
from service.api.uploads import ReceivedUpload
from service.errors import Conflict
from service.records import datasets
from service.records.idempotency import once
from service.records.ids import new_id
from service.records.status import DatasetStatus
from service.records.tables import Dataset

router = APIRouter(prefix="/datasets", tags=["datasets"])

Resolution = Annotated[
    Literal[16, 32, 64, 128, 256], BeforeValidator(lambda text: int(text) if str(text).isdigit() else text)
]


class DatasetForm(BaseModel):
    """The text fields of an upload."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[Text, Field(min_length=1, max_length=100, description="A name for people.")]
    resolution: Resolution = Field(
        64, description="Side in pixels at which the images are stored; jobs may train at others."
    )


_FILE = {
    "type": "string",
    "format": "binary",
    "description": "A zip or tar (.gz, .bz2, .xz) of PNG, JPEG or WebP images; folders are classes.",
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "title": "DatasetUpload",
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {**DatasetForm.model_json_schema()["properties"], "file": _FILE},
                    "additionalProperties": False,
                }
            }
        },
    }
}


@router.post(
    "",
    operation_id="createDataset",
    summary="Upload a dataset",
    status_code=202,
    responses={
        202: {"headers": {"Location": {"description": "The dataset.", "schema": {"type": "string"}}}},
        **responses(400, 413, 415, s409=REUSED),
    },
    openapi_extra=_BODY,
)
def create_dataset(
    upload: ReceivedUpload,
    response: Response,
    database: Database,
    artifacts: Artifacts,
    publisher: Publisher,
    links: Links,
    idempotency: IdempotencyHeader,
) -> DatasetReply:
    """A worker then validates, deduplicates and packs the images: read the dataset until it is `ready`."""
    form = _parse(upload.fields)
    dataset_id = new_id("ds")
    artifacts.put_file(upload.path, f"datasets/{dataset_id}/upload")
    stored = None
    try:
        with database.transaction() as session:
            dataset = once(
                session,
                idempotency.of(upload.digest),
                lambda: datasets.create(
                    session, form.name, resolution=form.resolution, dataset_id=dataset_id
                ),
                lambda made: datasets.get(session, made),
            )
        stored = dataset.id
    finally:
        if stored != dataset_id:  # refused, or made before
            artifacts.delete(f"datasets/{dataset_id}")
    publisher.send("atelier.prepare", dataset.id)
    response.headers["Location"] = links(f"/v1/datasets/{dataset.id}")
    return _reply(dataset, links)


@router.get("", operation_id="listDatasets", summary="List the datasets", responses=responses(404))
def list_datasets(
    database: Database,
    links: Links,
    page: ListPage,
    status: Annotated[DatasetStatus | None, Query(description="Only those of this status.")] = None,
) -> Listing[DatasetReply]:
    """Newest first; the built-in ones are among them."""
    with database.read() as session:
        if page.after is not None:
            with naming_cursor(page.after):
                datasets.get(session, page.after)
        found = datasets.page(session, page.limit, page.after, status=status)
    data = [_reply(dataset, links) for dataset in found.items]
    return listing(data, has_more=found.has_more, id_of=lambda dataset: dataset.id)


@router.get("/{dataset_id}", operation_id="getDataset", summary="Get a dataset", responses=responses(404))
def get_dataset(dataset_id: str, database: Database, links: Links) -> DatasetReply:
    """Its state, its facts, and the report of every file that was left out."""
    with database.read() as session:
        return _reply(datasets.get(session, dataset_id), links)


@router.delete(
    "/{dataset_id}",
    operation_id="deleteDataset",
    summary="Delete a dataset",
    status_code=204,
    responses=responses(404, s409="The dataset is built in, or a job still needs it."),
)
def delete_dataset(dataset_id: str, database: Database, artifacts: Artifacts) -> None:
    with database.transaction() as session:
        datasets.delete(session, dataset_id)
    artifacts.delete(f"datasets/{dataset_id}")


@router.get(
    "/{dataset_id}/preview.png",
    operation_id="getDatasetPreview",
    summary="Get a grid of real images",
    response_class=Response,
    responses={**file_content("image/png"), **responses(404, s409="The dataset is not ready.")},
)
def get_dataset_preview(
    dataset_id: str, request: Request, database: Database, artifacts: Artifacts
) -> Response:
    with database.read() as session:
        dataset = datasets.get(session, dataset_id)
    if dataset.status == DatasetStatus.FAILED:
        raise Conflict(
            "dataset_failed",
            f"The dataset {dataset_id!r} could not be prepared and has no preview.",
            hint=f"GET /v1/datasets/{dataset_id} says why; upload a corrected archive.",
        )
    if dataset.status != DatasetStatus.READY:
        raise Conflict(
            "dataset_not_ready",
            f"The dataset {dataset_id!r} is {dataset.status.value}; its preview is made when it is ready.",
            hint=f"Read GET /v1/datasets/{dataset_id} until its status is ready.",
        )
    return stored_file(request, artifacts, f"datasets/{dataset_id}/preview.png", "image/png")


def _parse(fields: dict[str, str]) -> DatasetForm:
    try:
        return DatasetForm.model_validate(fields)
    except ValidationError as error:
        raise invalid(field_errors(details(error))) from None


def _reply(row: Dataset, links: LinkMaker) -> DatasetReply:
    return DatasetReply(
        id=row.id,
        name=row.name,
        builtin=row.builtin,
        status=row.status,
        count=row.count,
        classes=row.classes,
        class_names=row.class_names,
        channels=row.channels,
        resolution=row.resolution,
        mean=row.mean,
        std=row.std,
        content_hash=row.content_hash,
        dropped=row.dropped,
        suspects=row.suspects,
        suspects_count=row.suspects_count,
        progress=DatasetProgress(done=row.progress_done, total=row.progress_total),
        error=row.error,
        created_at=row.created_at,
        urls={
            "self": links(f"/v1/datasets/{row.id}"),
            "preview": links(f"/v1/datasets/{row.id}/preview.png"),
        },
    )

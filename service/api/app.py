"""The HTTP application: its parts, its routes, its errors and its OpenAPI document."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI

from service.api import (
    checkpoint_downloads,
    checkpoints,
    datasets,
    evaluations,
    events,
    generations,
    health,
    images,
    jobs,
    logs,
    metrics,
    presets,
    problems,
    prometheus,
    samples,
    schema,
    tensorboard,
    workers,
)
from service.api.connections import CloseUnread
from service.api.dependencies import Parts, admitted, keyring
from service.api.evaluation_requests import EvaluationRequest
from service.api.generations import GenerationsRequest
from service.api.image_desk import ImageDesk
from service.api.image_replies import CheckpointChange
from service.api.image_requests import ImagesRequest
from service.api.methods import HeadLikeGet
from service.artifacts import Artifacts
from service.queue import Publisher
from service.records.database import Database
from service.settings import Settings, load_settings

DESCRIPTION = """\
Trains image generators and makes images from them. Post a spec to `/v1/jobs`, read the job until it has
`succeeded`, and post to `/v1/checkpoints/{id}/images`.

Every call but the health checks needs `Authorization: Bearer <key>`. Errors are `application/problem+json`.
Lists are newest first: `?limit=20&after=<last_id>`."""

TAGS = {
    "jobs": "Training runs.",
    "metrics": "Curves of a job.",
    "events": "What happened to a job.",
    "samples": "Grids of images made while training.",
    "checkpoints": "Stored networks.",
    "images": "Images made from a checkpoint.",
    "evaluations": "Scores of a checkpoint's images.",
    "datasets": "Sets of images to train on.",
    "presets": "Specs to start from.",
    "workers": "What runs and what it has in memory.",
    "health": "Whether the service is alive and ready, without a key; its metrics, with one.",
}

BODIES = (ImagesRequest, GenerationsRequest, EvaluationRequest, CheckpointChange)
"""Those that routes read by hand, for the OpenAPI document."""

# Every router but the health checks' is behind a key; each with the prefix of its paths. They are looked
# through in this order for each request: first those whose requests take milliseconds.
KEYED_ROUTERS: tuple[tuple[str, APIRouter], ...] = (
    *(
        ("/v1", resource.router)
        for resource in (
            images,
            jobs,
            logs,
            metrics,
            tensorboard,
            events,
            samples,
            checkpoints,
            checkpoint_downloads,
            generations,
            evaluations,
            datasets,
            presets,
            workers,
        )
    ),
    ("", prometheus.router),
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application of these settings, or of the environment's."""
    settings = load_settings() if settings is None else settings
    database, publisher = Database(settings.database_url), Publisher(settings.redis_url)
    artifacts = Artifacts(settings.artifacts_url, settings.data / "cache")
    desk = ImageDesk(database, publisher)
    parts = Parts(settings, database, artifacts, publisher, keyring(database), desk)
    app = FastAPI(
        title="Atelier",
        version=version("atelier"),
        description=DESCRIPTION,
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        lifespan=_closing,
    )
    app.state.parts = parts
    app.add_middleware(CloseUnread)
    problems.install(app)
    prometheus.install(app, database)
    app.add_middleware(HeadLikeGet)
    app.include_router(health.router)
    for prefix, router in KEYED_ROUTERS:
        app.include_router(router, prefix=prefix, dependencies=[admitted])
    _describe(app)
    return app


@asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.parts.publisher.close_bells()
    app.state.parts.publisher.close()
    app.state.parts.database.close()


def _describe(app: FastAPI) -> None:
    """Replace the document that FastAPI makes; it is made once, at the first call.

    It takes half a second, in which a busy service has requests in every thread that need it as well.
    """
    making = threading.Lock()

    def openapi() -> dict[str, Any]:
        with making:
            if app.openapi_schema is None:
                app.openapi_schema = schema.document(app, BODIES)
            return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document

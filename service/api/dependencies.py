"""What routes ask for by annotation: the parts of the service, the caller's key, and a page of a list.

FastAPI runs a dependency that is no coroutine in a thread, which costs more than what most of these do. A
route that is asked for an image, which takes milliseconds, calls for itself what it can.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.image_desk import ImageDesk
from service.api.problems import invalid
from service.api.together import Together
from service.artifacts import Artifacts as ArtifactStore
from service.errors import NotFound, Unauthorized
from service.queue import Publisher as QueuePublisher
from service.records import keys
from service.records.database import Database as SqlDatabase
from service.records.keys import KnownKey
from service.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What one app is made of; built by `create_app`, read by the aliases below."""

    settings: Settings
    database: SqlDatabase
    artifacts: ArtifactStore
    publisher: QueuePublisher
    keyring: Together[str, KnownKey | None]
    """The keys of secrets."""
    images: ImageDesk


def parts_of(request: Request) -> Parts:
    # Not a dependency of the dependencies below: FastAPI would go through it for each of them.
    return cast("Parts", request.app.state.parts)


async def _settings(request: Request) -> Settings:
    return parts_of(request).settings


async def _database(request: Request) -> SqlDatabase:
    return parts_of(request).database


async def _artifacts(request: Request) -> ArtifactStore:
    return parts_of(request).artifacts


async def _publisher(request: Request) -> QueuePublisher:
    return parts_of(request).publisher


async def _images(request: Request) -> ImageDesk:
    return parts_of(request).images


ServiceSettings = Annotated[Settings, Depends(_settings)]
Database = Annotated[SqlDatabase, Depends(_database)]
Artifacts = Annotated[ArtifactStore, Depends(_artifacts)]
Publisher = Annotated[QueuePublisher, Depends(_publisher)]
Images = Annotated[ImageDesk, Depends(_images)]

_bearer = HTTPBearer(
    auto_error=False, scheme_name="bearer", description="An API key: `Authorization: Bearer <key>`."
)


async def _admit(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    if credentials is None:
        raise Unauthorized(
            "missing_key",
            "No API key came with the request.",
            hint="Send the header Authorization: Bearer <key>.",
        )
    key = await parts_of(request).keyring(credentials.credentials)
    if key is None:
        raise Unauthorized(
            "invalid_key",
            "The API key is not valid: unknown, expired or revoked.",
            hint="`atelier up` writes a valid key to the file api-key in its data folder.",
        )
    request.state.key = key
    if request.query_params:
        await run_in_threadpool(_check_parameters, request)


def key_of(request: Request) -> KnownKey:
    """The caller's key, in an operation behind `admitted`; as a dependency it would cost as much again."""
    return cast("KnownKey", request.state.key)


def keyring(database: SqlDatabase) -> Together[str, KnownKey | None]:
    """Looks up the keys of secrets; clients that come together often have the same one."""

    def verified(secrets: list[str]) -> list[KnownKey | None]:
        with database.read() as session:
            found = {secret: keys.verify(session, secret) for secret in set(secrets)}
        return [found[secret] for secret in secrets]

    return Together(verified)


admitted = Depends(_admit)
"""For a whole router: no operation of it is reached without a valid key, or with a query parameter that it
does not know; a misspelt filter would otherwise be answered with everything."""


def _check_parameters(request: Request) -> None:
    known = _query_parameters(request.app, request.scope["route"].operation_id)
    unknown = [name for name in dict.fromkeys(request.query_params) if _parameter(name) not in known]
    if unknown:
        expected = f"known are {', '.join(sorted(known))}" if known else "this operation has none"
        raise invalid(dict.fromkeys(unknown, f"unknown query parameter; {expected}"))


def _parameter(name: str) -> str:
    """`metadata[team]` is the parameter `metadata`; no other one takes brackets."""
    return "metadata" if name.startswith("metadata[") and name.endswith("]") else name


def _query_parameters(app: FastAPI, operation_id: str) -> set[str]:
    """The names of an operation's query parameters, by the app's own OpenAPI document."""
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            if operation["operationId"] == operation_id:
                return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    raise LookupError(f"no operation {operation_id!r} in the OpenAPI document")


@dataclass(frozen=True)
class Paging:
    """A page of a list: how long, and after which object."""

    limit: int
    after: str | None


async def _paging(
    limit: Annotated[int, Query(ge=1, le=100, description="Objects a page.")] = 20,
    after: Annotated[
        str | None,
        Query(
            description="Id of the object that the page follows: `last_id` of the page before.",
            max_length=100,
        ),
    ] = None,
) -> Paging:
    return Paging(limit, after)


ListPage = Annotated[Paging, Depends(_paging)]


@contextmanager
def naming_cursor(after: str | None) -> Iterator[None]:
    """Looks up the object that a page follows: that it is not there is an error of `after`."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            "cursor_not_found",
            f"`after` names {after!r}, which is not in this list.",
            hint="Pass the `last_id` of the page before; leave it out for the first page.",
            param="after",
        ) from error


@dataclass(frozen=True)
class LinkMaker:
    """Makes the address of a path of this service, as the client reaches it."""

    base: str

    def __call__(self, path: str) -> str:
        return self.base + path


def links_of(request: Request) -> LinkMaker:
    return LinkMaker(str(request.base_url).rstrip("/"))


async def _links(request: Request) -> LinkMaker:
    return links_of(request)


Links = Annotated[LinkMaker, Depends(_links)]

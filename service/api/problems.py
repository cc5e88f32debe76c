"""Every error as `application/problem+json` (RFC 9457), with an OpenAI-style `error` object beside it."""

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from models.spec import FieldError, SpecError
from models.spec.fields import field_error
from service.api.methods import allowed_methods
from service.errors import AtelierError, Conflict, Invalid, NotFound, Unauthorized

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": 'Bearer realm="atelier"'},
    503: {"Retry-After": "3"},
}


class BadRequest(AtelierError):
    """The request cannot be read."""

    default_status = 400


class NotAcceptable(AtelierError):
    """None of the media types that the client accepts can be made."""

    default_status = 406


class UnsupportedMediaType(AtelierError):
    """The body is of a media type that the operation does not read."""

    default_status = 415


class RangeNotSatisfiable(AtelierError):
    """The file has none of the bytes that are asked for."""

    default_status = 416


class FieldProblem(BaseModel):
    """One bad field."""

    path: str = Field(
        description="JSON path of the field, such as `optimizer.learning_rate`; empty: the whole body."
    )
    message: str = Field(description="What is wrong with it, and what was expected.")


class ErrorBody(BaseModel):
    """The same error in the shape that OpenAI's clients read."""

    type: str = Field(description="`invalid_request_error`, `authentication_error` or `server_error`.")
    code: str = Field(description="Stable name of the error, for programs.")
    message: str = Field(description="What was wrong, for people.")
    param: str | None = Field(description="The first field at fault.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="A URI for this kind of problem.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong, what was expected.")
    instance: str = Field(description="The path of the request.")
    hint: str | None = Field(description="What to do about it.")
    errors: list[FieldProblem] = Field(description="Every bad field.")
    error: ErrorBody


MOST_LISTED = 100
"""Errors of one body, so that an answer is not larger than what it answers."""


def responses(*statuses: int, **described: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that can end in these errors, each with an example.

    401 and 422 (an unknown query parameter, if nothing else) are among those of every operation.

    `described` gives a status a meaning of its own: `s409="the dataset is not ready"`.
    """
    meanings = {status: HTTPStatus(status).phrase for status in (401, 422, *statuses)}
    meanings |= {int(name[1:]): text for name, text in described.items()}
    return {
        status: {
            "description": text,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _example(status)}
            },
        }
        for status, text in sorted(meanings.items())
    }


def invalid(errors: Mapping[str, str] | Iterable[FieldError]) -> Invalid:
    """A 422 that names every bad field; of a hundred or more the first ones."""
    if isinstance(errors, Mapping):
        errors = [FieldError(path, message) for path, message in errors.items()]
    found = list(errors)
    listed = [{"path": error.path, "message": error.message} for error in found[:MOST_LISTED]]
    text = "; ".join(f"{one['path'] or 'body'}: {one['message']}" for one in listed)
    some = "" if len(found) == len(listed) else f", of which these are the first {len(listed)}"
    return Invalid(
        "invalid_request",
        text if len(found) == 1 else f"{len(found):,} fields are wrong{some}: {text}",
        hint="Correct the fields in `errors`; /docs describes each one.",
        param=next((one["path"] for one in listed if one["path"]), None),
        errors=listed,
    )


def field_errors(details: Iterable[Mapping[str, Any]], *, skip: int = 0) -> list[FieldError]:
    """pydantic's error details as JSON paths and sentences; `skip` leaves out the first parts of the path."""
    words = {"extra_forbidden": "unknown field"}
    return [field_error(detail, skip=skip, words=words) for detail in details]


def problem(request: Request, error: AtelierError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The reply for an error."""
    own = HEADERS.get(error.status, {})
    return JSONResponse(
        describe(error, instance=request.url.path),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers={**own, **(headers or {})},
    )


def describe(error: AtelierError, *, instance: str) -> dict[str, Any]:
    """The problem object of an error."""
    return {
        "type": f"urn:atelier:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "instance": instance,
        "hint": error.hint,
        "errors": list(error.errors),
        "error": {
            "type": _openai_type(error.status),
            "code": error.code,
            "message": str(error),
            "param": error.param,
        },
    }


def install(app: FastAPI) -> None:
    """Make the app answer every error as a problem."""
    app.add_exception_handler(AtelierError, _atelier_error)
    app.add_exception_handler(SpecError, _spec_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def _atelier_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AtelierError)  # noqa: S101  Starlette calls a handler with its own class only
    if error.status >= 500:
        # What has brought it about is worth a traceback; who has raised it is not.
        logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error.__cause__)
    return problem(request, error)


def _spec_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError)  # noqa: S101  as above
    return problem(request, invalid(error.errors))


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  as above
    # The first part of a location says where the field came from: query, path, header or body.
    return problem(request, invalid(field_errors(error.errors(), skip=1)))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  as above
    code, message, hint = {
        404: ("not_found", f"There is nothing at {request.url.path}.", "/docs lists every operation."),
        405: (
            "method_not_allowed",
            f"{request.method} is not possible here.",
            "The Allow header names what is; /docs lists every operation.",
        ),
    }.get(error.status_code, ("http_error", str(error.detail), None))
    headers = {"Allow": ", ".join(allowed_methods(request))} if code == "method_not_allowed" else {}
    reply = AtelierError(code, message, status=error.status_code, hint=hint)
    return problem(request, reply, {**(error.headers or {}), **headers})


def _gone(request: Request, error: Exception) -> Response:
    # Nobody reads this; it is here so that a client who hangs up is no mistake of the service in the log.
    return problem(request, BadRequest("client_gone", "The connection ended before the body did."))


def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this reply, so that the server logs it with its traceback.
    return problem(
        request,
        AtelierError(
            "internal_error",
            "The service made a mistake; the operator finds it in the log.",
            hint="Trying again may help; if it does not, report this to the operator.",
        ),
    )


def _openai_type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "authentication_error" if status == 401 else "invalid_request_error"


_EXAMPLES: Mapping[int, AtelierError] = {
    422: invalid({"optimizer.learning_rate": "Input should be greater than 0"}),
    409: Conflict(
        "job_not_cancellable", "The job is succeeded; only one that is not yet over can be cancelled."
    ),
    404: NotFound("job_not_found", "There is no job 'job_x'.", hint="GET /v1/jobs lists the jobs."),
    401: Unauthorized(
        "missing_key",
        "No API key came with the request.",
        hint="Send the header Authorization: Bearer <key>.",
    ),
}


def _example(status: int) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    error = _EXAMPLES.get(status, AtelierError(phrase.lower().replace(" ", "_"), phrase, status=status))
    return describe(error, instance="/v1/jobs")

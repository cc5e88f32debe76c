"""Reads JSON bodies within a byte limit, and declares them in the OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from models.spec.fields import details
from service.api.dependencies import parts_of
from service.api.problems import BadRequest, UnsupportedMediaType, field_errors, invalid
from service.errors import TooLarge

Body = TypeVar("Body", bound=BaseModel)


async def read_limited(request: Request, limit: int) -> bytes:
    """The whole body; a declared or a counted length above `limit` ends it."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        "body_too_large",
        f"The body is larger than the {limit:,} bytes that are accepted.",
        hint="Send less, or ask the operator to raise the limit.",
    )


async def json_bytes(request: Request) -> bytes:
    """The body of a request that carries JSON, not parsed yet."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(
            "unsupported_media_type",
            f"The body is {kind or 'of no declared type'}; this operation takes application/json.",
            hint="Send the header Content-Type: application/json.",
        )
    return await read_limited(request, parts_of(request).settings.max_json_bytes)


JsonBytes = Annotated[bytes, Depends(json_bytes)]


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object as a dict; malformed JSON is a 400, another JSON value a 422."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _malformed(str(error)) from None
    if not isinstance(value, dict):
        raise invalid({"": "must be a JSON object"})
    return value


def parse_model(model: type[Body], body: bytes) -> Body:
    """A JSON object as a pydantic model: strictly, so that `"3"` is no number."""
    parse_object(body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(field_errors(details(error))) from None


def json_body(schema: str, examples: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The `openapi_extra` of an operation that reads its body through `JsonBytes`.

    `examples` maps a name to a summary and a value.
    """
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": shown}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _malformed(reason: str) -> BadRequest:
    return BadRequest(
        "malformed_json",
        f"The body is not JSON: {reason}.",
        hint="Check quotes, commas and brackets; NaN and infinity are not JSON.",
    )

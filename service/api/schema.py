"""The OpenAPI document: the schema of a job request derived from the spec models, and bodies read by hand."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from models.spec import DiffusionSpec, GanSpec
from service.api.problems import Problem

REFERENCE = "#/components/schemas/{model}"
JOB_REQUEST = "JobRequest"
_SUFFIX = "Overrides"
_NULL = {"type": "null"}
Schema = dict[str, Any]


def document(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> Schema:
    """The OpenAPI document, with `bodies`, the job request and the problem among its schemas."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = described["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    own = models_json_schema([(model, "validation") for model in bodies], ref_template=REFERENCE)[1]["$defs"]
    problem = models_json_schema([(Problem, "serialization")], ref_template=REFERENCE)[1]["$defs"]
    for name, schema in {**job_request(), **problem, **own}.items():
        schemas.setdefault(name, schema)
    return described


def job_request() -> dict[str, Schema]:
    """The schemas of a posted spec: both families' fields, each of which may be left out.

    A null takes a preset's value away again (RFC 7396), so every field may be null. No default is
    named: it is the preset's value that holds.
    """
    definitions = models_json_schema(
        [(GanSpec, "validation"), (DiffusionSpec, "validation")], ref_template=REFERENCE
    )[1]["$defs"]
    objects = {name: part for name, part in definitions.items() if "properties" in part}
    renamed = {REFERENCE.format(model=name): REFERENCE.format(model=name + _SUFFIX) for name in objects}
    optional = {name + _SUFFIX: _optional(part, renamed) for name, part in objects.items()}
    families = [optional.pop(model.__name__ + _SUFFIX)["properties"] for model in (GanSpec, DiffusionSpec)]
    choices = {name: part for name, part in definitions.items() if name not in objects}
    properties = {
        name: _either(name, *(family[name] for family in families if name in family))
        for name in families[0] | families[1]
    }
    properties["family"] = {
        "enum": ["gan", "diffusion", None],
        "description": "Follows from the preset, where one is named.",
    }
    request = {
        "title": JOB_REQUEST,
        "type": "object",
        "description": "A preset plus overrides, or a whole spec. Overrides merge into the preset by RFC "
        "7396, except that an object whose `kind` changes is replaced. `GanSpec` and `DiffusionSpec` are "
        "the resolved forms.",
        "properties": properties,
        "additionalProperties": False,
    }
    return {**choices, **optional, JOB_REQUEST: request}


def _either(name: str, *variants: Schema) -> Schema:
    """The schema of a field that the families share, or of one that differs between them."""
    if all(variant == variants[0] for variant in variants):
        return variants[0]
    union = [option for variant in variants for option in variant["anyOf"] if option != _NULL]
    return {"description": f"The `{name}` of the family.", "anyOf": [*union, _NULL]}


def _optional(schema: Schema, renamed: Mapping[str, str]) -> Schema:
    """An object's schema with every property nullable, none required, and references renamed."""
    properties = {
        name: _nullable(_redirected(value, renamed)) for name, value in schema["properties"].items()
    }
    rest = {key: value for key, value in schema.items() if key not in {"properties", "required", "title"}}
    return {**rest, "properties": properties}


def _nullable(schema: Schema) -> Schema:
    described: Schema = {key: schema[key] for key in ("title", "description") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in {"title", "description", "default"}}
    options = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    return {**described, "anyOf": [*(one for one in options if one != _NULL), _NULL]}


def _redirected(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: renamed.get(item, item) if key == "$ref" else _redirected(item, renamed)
            for key, item in value.items()
        }
    return [_redirected(item, renamed) for item in value] if isinstance(value, list) else value

"""The OpenAPI document: complete enough to generate clients from, and true of what is answered."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from models.presets import PRESETS, plan
from models.spec.data import BUILTIN_DATASETS

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

VERBS = ("get", "list", "create", "cancel", "pause", "resume", "update", "delete", "download", "plot")
OPEN = {"/livez", "/readyz"}


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    described: dict[str, Any] = app.openapi()
    return described


def test_it_is_made_once_however_many_ask_first(app: FastAPI) -> None:
    """Breaks when each of the first forty requests spends half a second of every other's time on it."""
    app.openapi_schema = None
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: app.openapi(), range(8)))
    assert all(document is made[0] for document in made)


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, one) for path, ways in document["paths"].items() for one in ways.values()]


def _validator(document: dict[str, Any], name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """A route without a summary, a tag, its errors or an example fails here."""
    tags = {tag["name"] for tag in document["tags"]}
    names = [operation["operationId"] for _, operation in _operations(document)]
    assert len(names) == len(set(names))
    for path, operation in _operations(document):
        assert operation["operationId"].startswith(VERBS)
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        assert operation["tags"]
        replies = operation["responses"]
        assert path in OPEN or {"401"} <= set(replies), path
        assert "{" not in path or "404" in replies, path
        for status, reply in replies.items():
            if int(status) >= 400 and path not in OPEN:
                content = reply["content"]["application/problem+json"]
                assert content["schema"]["$ref"].endswith("/Problem"), path
                assert content["example"]["status"] == int(status)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        assert body is None or body["examples"], path


def test_every_reply_and_field_is_described_with_an_example(document: dict[str, Any]) -> None:
    for _, operation in _operations(document):
        for status, reply in operation["responses"].items():
            content = reply.get("content", {}).get("application/json")
            if content is None or int(status) >= 400:
                continue
            name = content["schema"]["$ref"].rpartition("/")[2]
            schema = document["components"]["schemas"][name]
            if "data" in schema["properties"] and schema["properties"]["data"].get("items"):
                item = schema["properties"]["data"]["items"]["$ref"].rpartition("/")[2]
                schema = document["components"]["schemas"][item]
            assert schema.get("examples") or name == "ImageBatchReply", name
            assert schema["description"], name


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """A schema that is named and not there breaks every generator."""

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(one) for one in value.values()))
        return set().union(*(references(one) for one in value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known


def test_what_may_be_posted_fits_the_job_request(document: dict[str, Any]) -> None:
    """Presets, the examples, and every resolved spec are valid requests by the published schema."""
    validator = _validator(document, "JobRequest")
    Draft202012Validator.check_schema(validator.schema)
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        validator.validate(example["value"])
        plan(example["value"], BUILTIN_DATASETS.get)
    for name, preset in PRESETS.items():
        validator.validate(preset.spec)
        validator.validate(json.loads(plan({"preset": name}, BUILTIN_DATASETS.get).spec.model_dump_json()))
    validator.validate({"preset": "dcgan", "ema": None, "optimizer": {"clip_grad_norm": None}})
    for bad in ({"stepz": 1}, {"optimizer": {"learning_rate": -1}}, {"optimizer": {"lr": 1}}, {"seed": "7"}):
        assert not validator.is_valid({"preset": "dcgan", **bad}), bad


def test_the_request_has_every_field_of_both_families(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    fields = set(schemas["GanSpec"]["properties"]) | set(schemas["DiffusionSpec"]["properties"])
    assert set(schemas["JobRequest"]["properties"]) == fields
    assert not schemas["JobRequest"].get("required")
    for name, field in schemas["JobRequest"]["properties"].items():
        part = field["anyOf"][0].get("$ref", "").rpartition("/")[2] if "anyOf" in field else ""
        assert field.get("description") or schemas[part]["description"], name


def test_replies_are_as_described(client: TestClient, document: dict[str, Any]) -> None:
    job = client.post("/v1/jobs", json={"preset": "ddpm"}).json()
    _validator(document, "JobReply").validate(job)
    _validator(document, "DiffusionSpec").validate(job["spec"])
    _validator(document, "DatasetReply").validate(client.get("/v1/datasets/digits").json())
    _validator(document, "Problem").validate(client.get("/v1/jobs/x").json())


def test_pictures_and_files_have_their_media_types(document: dict[str, Any]) -> None:
    def kinds(path: str, method: str = "get", status: str = "200") -> set[str]:
        return set(document["paths"][path][method]["responses"][status]["content"])

    pictures = {"image/png", "image/jpeg", "image/webp"}
    assert kinds("/v1/jobs/{job_id}/metrics.png") == {"image/png"}
    files = pictures | {"image/gif", "application/zip"}
    assert kinds("/v1/images/{image_id}/{file}") == files
    assert kinds("/v1/checkpoints/{checkpoint_id}/images", "post") == files | {"application/json"}
    assert kinds("/v1/checkpoints/{checkpoint_id}/download") == {
        "application/octet-stream",
        "application/zip",
    }
    upload = document["paths"]["/v1/datasets"]["post"]["requestBody"]["content"]
    assert set(upload) == {"multipart/form-data"}

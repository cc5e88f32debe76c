"""OpenAI's own Python package, unmodified, gets images and typed errors from this service."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from service.api.app import create_app
from service.records import images
from service.records.database import Database
from service.records.status import RequestStatus
from service.records.tables import ImageBatch
from service.settings import Settings
from tests.service.api.conftest import PNG, Trained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
pytestmark = SQLITE


@contextmanager
def openai_client(address: str, key: str) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{address}/v1", api_key=key, http_client=plain, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def like_openai(app: FastAPI, key: str, serve: Callable[[FastAPI], str]) -> Iterator[openai.OpenAI]:
    with openai_client(serve(app), key) as client:
        yield client


@pytest.mark.parametrize("name_of", [lambda trained: trained.checkpoint, lambda trained: trained.job])
def test_a_model_is_a_checkpoint_or_a_job(
    like_openai: openai.OpenAI,
    trained: Trained,
    drawing: Callable[..., Any],
    name_of: Callable[[Trained], str],
) -> None:
    with drawing():
        made = like_openai.images.generate(
            model=name_of(trained), prompt="", n=2, size="auto", extra_body={"seed": 7}
        )
    assert made.data is not None
    assert [base64.b64decode(image.b64_json or "") for image in made.data] == [PNG + b"7", PNG + b"8"]
    assert [image.model_extra for image in made.data] == [{"seed": 7}, {"seed": 8}]
    assert (made.output_format, made.size) == ("png", "16x16")
    assert made.created > 1_700_000_000


def test_addresses_and_formats(
    like_openai: openai.OpenAI, client: TestClient, trained: Trained, drawing: Callable[..., Any]
) -> None:
    with drawing():
        made = like_openai.images.generate(
            model=trained.checkpoint,
            prompt="",
            size="16x16",  # type: ignore[arg-type]  # OpenAI's own sizes are larger
            response_format="url",
            output_format="webp",
            extra_body={"seed": 3},
        )
    assert made.data is not None
    assert made.data[0].url is not None
    assert made.data[0].url.endswith("/0.webp")
    assert made.data[0].b64_json is None
    assert client.get(made.data[0].url).content == PNG + b"3"


@pytest.mark.parametrize(("prompt", "label"), [("3", 3), (" 9 ", 9)])
def test_a_prompt_names_a_class(
    like_openai: openai.OpenAI,
    train: Callable[..., Trained],
    drawing: Callable[..., Any],
    database: Database,
    prompt: str,
    label: int,
) -> None:
    conditional = train(conditional={})
    with drawing():
        like_openai.images.generate(model=conditional.job, prompt=prompt, n=2)
    with database.read() as session:
        (row,) = session.scalars(select(ImageBatch))
    assert row.request["labels"] == [label, label]


def test_errors_arrive_as_the_package_s_own(
    like_openai: openai.OpenAI,
    train: Callable[..., Trained],
    app: FastAPI,
    serve: Callable[[FastAPI], str],
    database: Database,
) -> None:
    """Breaks when a client's `except openai.BadRequestError` does not catch, or says nothing of the field."""
    plain, conditional, unfinished = train(), train(conditional={}), train(steps=())

    def refusal(**changed: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as raised:
            like_openai.images.generate(**{"model": plain.checkpoint, "prompt": "", **changed})
        return raised.value

    for changed, param in (
        ({"prompt": "a cat"}, "prompt"),
        ({"model": conditional.job, "prompt": "a cat"}, "prompt"),
        ({"model": conditional.job, "prompt": "10"}, "prompt"),
        ({"size": "1024x1024"}, "size"),
        ({"n": 10**9}, "n"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"sampler": {"kind": "ddim"}}}, "sampler"),
        ({"extra_body": {"guidance_scale": 2}}, "guidance_scale"),
        ({"extra_body": {"style": "vivid"}}, "style"),
    ):
        error = refusal(**changed)
        assert isinstance(error, openai.BadRequestError), changed
        assert (error.param, error.type) == (param, "invalid_request_error"), changed
        assert param in error.message
    assert "has: 0, 1, 2" in refusal(model=conditional.job, prompt="a cat").message
    for model in ("ckpt_none", "dall-e-3", "job_01jc0000000000000000000001"):
        missing = refusal(model=model)
        assert isinstance(missing, openai.NotFoundError)
        assert missing.code == "model_not_found"
    assert isinstance(refusal(model=unfinished.job), openai.ConflictError)
    address = str(like_openai.base_url).removesuffix("/v1/")
    with openai_client(address, "sk-wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.images.generate(model=plain.checkpoint, prompt="")
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None, "something was queued"


def test_what_takes_too_long_is_given_up(
    quick_settings: Settings,
    key: str,
    trained: Trained,
    serve: Callable[[FastAPI], str],
    database: Database,
) -> None:
    """Breaks when a service without a sampling worker lets its clients wait for ever, or works for nobody."""
    app = create_app(quick_settings.model_copy(update={"max_wait_seconds": 0.5}))
    with openai_client(serve(app), key) as client, pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(model=trained.checkpoint, prompt="")
    assert (raised.value.status_code, raised.value.code) == (503, "images_timeout")
    assert raised.value.response.headers["retry-after"]
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


@pytest.mark.parametrize("named", [True, False])
def test_what_has_a_key_is_made_all_the_same_for_the_request_that_comes_again(
    quick_settings: Settings,
    key: str,
    trained: Trained,
    drawing: Callable[..., Any],
    database: Database,
    named: bool,
) -> None:
    """Breaks when a client that retries after the 503 is told for a day that its images were cancelled."""
    app = create_app(quick_settings.model_copy(update={"max_wait_seconds": 0.3}))
    headers = {"Authorization": f"Bearer {key}"} | ({"Idempotency-Key": "1f0c3c9e"} if named else {})
    client = TestClient(app, headers=headers)
    body = {"model": trained.checkpoint, "prompt": "", "n": 2, "seed": 7}

    def rows() -> list[RequestStatus]:
        with database.read() as session:
            return [row.status for row in session.scalars(select(ImageBatch))]

    late = client.post("/v1/images/generations", json=body)
    assert (late.status_code, late.json()["error"]["code"]) == (503, "images_timeout")
    if not named:
        assert rows() == [RequestStatus.CANCELLED]
        return
    assert rows() == [RequestStatus.QUEUED]
    with drawing():
        deadline = time.monotonic() + 20
        while rows() != [RequestStatus.SUCCEEDED]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    again = client.post("/v1/images/generations", json=body)
    assert again.status_code == 200, again.text
    assert [base64.b64decode(image["b64_json"]) for image in again.json()["data"]] == [PNG + b"7", PNG + b"8"]
    assert rows() == [RequestStatus.SUCCEEDED], "nothing is made a second time"

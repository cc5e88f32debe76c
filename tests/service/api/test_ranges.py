"""Downloads in parts, resumed, and not repeated, whatever the files are stored in."""

import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.artifacts import Artifacts
from service.settings import Settings
from tests.faulty_proxy import CUT_SHORT, Fault, FaultyProxy, faulty_proxy
from tests.service.api.conftest import PNG, SHA256, WEIGHTS, Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

SIZE = len(WEIGHTS)


@pytest.fixture(params=["folder", "memory:", "s3:"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    url = {
        "folder": lambda: settings.artifacts_url,
        "memory:": lambda: f"memory://{secrets.token_hex(4)}",
        "s3:": lambda: request.getfixturevalue("bucket"),
    }[request.param]()
    return settings.model_copy(update={"artifacts_url": url})


IN_A_FOLDER = pytest.mark.parametrize("settings", ["folder"], indirect=True)
IN_S3 = pytest.mark.parametrize("settings", ["s3:"], indirect=True)


def url_of(trained: Trained) -> str:
    return f"/v1/checkpoints/{trained.checkpoint}/download"


def test_a_part_is_sent_where_one_is_asked_for(client: TestClient, trained: Trained) -> None:
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=6990-", 6990, SIZE),
        ("bytes=6990-99999999", 6990, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        ("bytes=-99999999", 0, SIZE),
        ("Bytes=0-", 0, SIZE),
    ):
        got = client.get(url_of(trained), headers={"Range": asked})
        assert (got.status_code, got.content) == (206, WEIGHTS[start:stop]), asked
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}", asked
        assert got.headers["content-length"] == str(stop - start), asked
        assert (got.headers["etag"], got.headers["accept-ranges"]) == (f'"{SHA256}"', "bytes")


@IN_A_FOLDER
def test_what_asks_for_no_one_part_gets_the_whole(client: TestClient, trained: Trained) -> None:
    """As RFC 9110 allows; anything but 200 or 206 would keep a client from a file that is there."""
    for asked in (
        "bytes=0-1,5-6",
        "bytes=5-1",
        "bytes=-",
        "bytes=a-b",
        "lines=0-1",
        "bytes",
        "",
        "bytes=9e9-",
    ):
        got = client.get(url_of(trained), headers={"Range": asked})
        assert (got.status_code, got.content) == (200, WEIGHTS), asked
        assert "content-range" not in got.headers


@IN_A_FOLDER
def test_a_part_behind_the_end_is_refused_with_the_length(client: TestClient, trained: Trained) -> None:
    for asked in (f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0", f"bytes={'9' * 18}-"):
        refused = client.get(url_of(trained), headers={"Range": asked})
        assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{SIZE}"), asked
        assert refused.json()["error"]["code"] == "range_not_satisfiable"


def test_a_part_of_another_version_is_not_mixed_with_this_one(
    client: TestClient, trained: Trained, artifacts: Artifacts
) -> None:
    """Breaks when a resumed file is half of one version and half of another."""
    url, key = f"/v1/jobs/{trained.job}/samples/20.png", f"jobs/{trained.job}/samples/00000020.png"
    first = client.get(url)
    resumed = {"Range": "bytes=4-", "If-Range": first.headers["etag"]}
    assert (client.get(url, headers=resumed).status_code, client.get(url).content) == (206, PNG)
    artifacts.put_bytes(PNG[::-1], key)
    again = client.get(url, headers=resumed)
    assert (again.status_code, again.content) == (200, PNG[::-1])
    assert again.headers["etag"] != first.headers["etag"]
    for weak in (f"W/{again.headers['etag']}", "Tue, 15 Nov 1994 12:45:26 GMT"):
        assert client.get(url, headers={**resumed, "If-Range": weak}).status_code == 200


def test_what_the_client_has_is_not_sent_again(
    client: TestClient, trained: Trained, artifacts: Artifacts
) -> None:
    url, key = f"/v1/jobs/{trained.job}/samples/20.png", f"jobs/{trained.job}/samples/00000020.png"
    tag = client.get(url).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = client.get(url, headers={"If-None-Match": known, "Range": "bytes=0-1"})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag), known
    assert client.get(url, headers={"If-None-Match": f'"{tag[2:]}'}).status_code == 200
    artifacts.put_bytes(PNG[::-1], key)
    assert client.get(url, headers={"If-None-Match": tag}).content == PNG[::-1]


@IN_A_FOLDER
def test_a_head_and_a_post_know_no_parts(
    client: TestClient, trained: Trained, drawing: Callable[[], Any]
) -> None:
    """Breaks when the picture that was asked for with POST comes in part, or not at all."""
    head = client.head(url_of(trained), headers={"Range": "bytes=0-0"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(SIZE))
    wanted = {"Accept": "image/png", "Range": "bytes=0-0", "If-None-Match": "*"}
    with drawing():
        made = client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json={"seed": 1}, headers=wanted)
    assert (made.status_code, made.content[: len(PNG)]) == (200, PNG)


@IN_S3
def test_no_more_than_the_part_is_read_from_the_store(
    s3_proxy: FaultyProxy, client: TestClient, trained: Trained
) -> None:
    """Breaks when the last byte of a file of gigabytes costs the transfer of all of it."""
    s3_proxy.seen.clear()
    assert client.get(url_of(trained), headers={"Range": "bytes=5-6"}).content == WEIGHTS[5:7]
    assert [line.split()[2] for line in s3_proxy.seen if line.startswith("GET ")] == ["bytes=5-6"]


@pytest.mark.parametrize("settings", ["folder", "s3:"], indirect=True)
def test_curl_goes_on_with_a_download_that_broke_off(
    app: FastAPI,
    trained: Trained,
    artifacts: Artifacts,
    serve: Callable[[FastAPI], str],
    key: str,
    tmp_path: Path,
) -> None:
    content, file = secrets.token_bytes(5_000_000), tmp_path / "weights"
    artifacts.put_bytes(content, f"jobs/{trained.job}/checkpoints/00000020/checkpoint.safetensors")
    with faulty_proxy(serve(app)) as proxy:
        command = [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-H",
            f"Authorization: Bearer {key}",
            "-C",
            "-",
            "-o",
            file,
        ]
        proxy.fault = Fault("cut", times=1)
        broken = subprocess.run([*command, proxy.address + url_of(trained)], capture_output=True, check=False)
        assert broken.returncode == 18, broken.stderr  # "partial file"
        assert file.read_bytes() == content[:CUT_SHORT]
        resumed = subprocess.run(
            [*command, proxy.address + url_of(trained)], capture_output=True, check=False
        )
        assert resumed.returncode == 0, resumed.stderr
    assert file.read_bytes() == content
    assert proxy.seen[-1].endswith(f"bytes={CUT_SHORT}-")

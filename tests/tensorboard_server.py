"""A real TensorBoard on loopback, asked over its HTTP API."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 120.0  # a bound for a hung test, never for a slow machine


class Board:
    """What TensorBoard shows of a folder."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE)

    def tags(self, plugin: str) -> dict[str, list[str]]:
        """The tags of each run."""
        return {run: sorted(tags) for run, tags in self._json(f"{plugin}/tags").items()}

    def scalars(self, run: str, tag: str) -> list[tuple[int, float]]:
        """Steps and values."""
        points = self._json("scalars/scalars", run=run, tag=tag)
        return [(step, value) for _, step, value in points]

    def texts(self, run: str, tag: str) -> list[str]:
        """HTML."""
        return [one["text"] for one in self._json("text/text", run=run, tag=tag)]

    def images(self, run: str, tag: str) -> list[tuple[int, bytes]]:
        """Steps and files."""
        found = self._json("images/images", run=run, tag=tag, sample=0)
        return [
            (one["step"], self._client.get(f"/data/plugin/images/individualImage?{one['query']}").content)
            for one in found
        ]

    def wait_for(self, run: str, plugin: str, tag: str) -> None:
        """TensorBoard reads its folder in the background."""
        deadline = time.monotonic() + PATIENCE
        while tag not in self.tags(plugin).get(run, []):
            assert time.monotonic() < deadline, f"TensorBoard never showed {tag}"
            time.sleep(0.1)

    def close(self) -> None:
        self._client.close()

    def _json(self, path: str, **params: Any) -> Any:
        return self._client.get(f"/data/plugin/{path}", params=params).raise_for_status().json()


@contextmanager
def tensorboard(folder: Path) -> Iterator[Board]:
    log = folder.with_suffix(".log")
    options = ["--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "tensorboard", "--logdir", folder, *options],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        board = Board(_address(process, log))
        yield board
        board.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while "http://" not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return "http://" + said.partition("http://")[2].split()[0].rstrip("/")

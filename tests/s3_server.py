"""A real S3 server for tests: moto's, as a process of its own that keeps everything in memory."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service import filesystems

# What every client in a test, and every process that a test starts, finds in its environment.
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


LIMITS = ("CONNECT_SECONDS", "SILENCE_SECONDS", "STALLED_SECONDS")


@contextmanager
def running_s3(log: Path) -> Iterator[str]:
    """The address of an S3 server for as long as the block runs."""
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 180  # a bound for a hung test, never for a slow machine
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[0]
    finally:
        process.kill()
        process.wait()


def make_bucket(endpoint: str, name: str) -> None:
    """Unsigned, which moto takes: no client of S3 is needed to make one for a test."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        assert answer.status == 200


@contextmanager
def impatience() -> Iterator[None]:
    """What is opened and used in the block gives up an outage within a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS:
            patch.setattr(filesystems, name, 0.3)
        patch.setattr(filesystems, "SLOWEST_BYTES_PER_SECOND", 1 << 40)
        patch.setattr(filesystems, "TRIES", 1)
        yield

"""The process that only serves HTTP: light, quick to start, and without torch whatever is called."""

import json
import os
import subprocess
import sys

import pytest

from service.settings import Settings
from tests.service.api.conftest import Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FORBIDDEN = (
    "torch",
    "torchvision",
    "diffusers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "sklearn",
    "celery.worker",
    "celery.apps",
    "worker",
    "numpy",
    "matplotlib",
    "PIL",
)
MAX_MEGABYTES = 150
MAX_SECONDS_OF_CPU = 3.0  # about one alone; shared and slow machines count their waiting for memory, too

SERVE = """
import json, os, re, resource, sys, time
from service.api.app import create_app
from service.settings import Settings

app = create_app(Settings())
started = time.process_time()
from fastapi.testclient import TestClient

client = TestClient(app, headers={"Authorization": f"Bearer {os.environ['KEY']}"})
known = json.loads(os.environ["KNOWN"])


def call(path, method, operation):
    url = re.sub(r"{(\\w+)}", lambda name: known.get(name[1], "x"), path)
    body = BODIES.get(operation, {})
    return client.request(method, url, **body).status_code


BODIES = {
    "createImages": {"json": {}, "headers": {"Prefer": "wait=0"}},
    "createJob": {"json": {"preset": "dcgan"}},
    "updateCheckpoint": {"json": {"pinned": True}},
    "createDataset": {"data": {"name": "x"}, "files": {"file": ("x.zip", b"x")}},
}
operations = [
    (path, method, one["operationId"])
    for path, ways in app.openapi()["paths"].items()
    for method, one in ways.items()
]
operations.sort(key=lambda one: one[1] == "delete")  # what is deleted cannot be asked for afterwards
replies = {name: call(path, method, name) for path, method, name in operations}
client.post("/v1/jobs?dry_run=true", json={"preset": "ddpm"})
with open("/proc/self/status") as status:
    memory = int(re.search(r"VmRSS:\\s+(\\d+)", status.read())[1]) / 1024
seen = {"started": started, "memory": memory, "replies": replies, "loaded": sorted(sys.modules)}
print(json.dumps(seen))
"""


def test_no_route_brings_torch(settings: Settings, key: str, trained: Trained) -> None:
    """Gigabytes of image and seconds of start, if any route imported what only workers need."""
    environment = {
        **os.environ,
        "ATELIER_DATA": str(settings.data),
        "ATELIER_DATABASE_URL": settings.database_url,
        "ATELIER_REDIS_URL": settings.redis_url,
        "ATELIER_ARTIFACTS_URL": settings.artifacts_url,
        "ATELIER_DESCRIBE_SECONDS": "0.1",
        "KEY": key,
        "KNOWN": json.dumps(
            {"job_id": trained.job, "checkpoint_id": trained.checkpoint, "step": "20", "name": "ddpm"}
        ),
    }
    ran = subprocess.run(
        [sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert {status for status in seen["replies"].values() if status >= 500} == set()
    assert (
        seen["replies"].items()
        >= {"getJob": 200, "downloadCheckpoint": 200, "createImages": 202, "plotMetrics": 200}.items()
    )
    assert [name for name in FORBIDDEN if name in seen["loaded"]] == []
    assert seen["memory"] < MAX_MEGABYTES
    assert seen["started"] < MAX_SECONDS_OF_CPU

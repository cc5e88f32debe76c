"""ATELIER_DEVICE, and what a GPU worker leaves on its GPU."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.records.status import JobStatus
from service.settings import Settings
from worker import devices
from worker.devices import DeviceError, open_device, resolve_device, told_device

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert resolve_device("auto") == "cpu"


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:-1", "mps", "", "cuda:1x"])
def test_a_name_of_no_device_is_refused_with_the_choices(wanted: str) -> None:
    with pytest.raises(DeviceError) as refused:
        resolve_device(wanted)
    assert refused.value.code == "device_unavailable"
    assert "cuda:N" in refused.value.hint


def test_a_gpu_that_is_not_there_is_refused() -> None:
    """Breaks when training silently falls back to a CPU for days."""
    with pytest.raises(DeviceError, match="cuda:99"):
        resolve_device("cuda:99")


@pytest.mark.parametrize("driver", [True, False])
def test_a_worker_without_torch_tells_its_device_as_well(
    driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when GET /v1/workers answers which device was asked for, and not which one it is."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path if driver else tmp_path / "none")
    assert told_device("auto") == resolve_device("auto")
    assert told_device("cpu") == "cpu"
    assert told_device("cuda:99") == "cuda:99", "one that is not there is told as it was asked for"


def test_a_share_of_a_gpu_means_nothing_to_a_cpu() -> None:
    assert open_device("cpu", 0.25) == "cpu"


@pytest.mark.gpu
@CUDA
def test_no_more_than_its_share_of_a_gpu_is_taken() -> None:
    """Breaks when a trainer takes the memory that images need."""
    total = torch.cuda.mem_get_info(0)[1]
    program = (
        "import torch; from worker.devices import open_device; "
        f"torch.empty({total // 2}, dtype=torch.uint8, device=open_device('cuda:0', 0.25))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "OutOfMemoryError" in ended.stderr


@pytest.mark.gpu
@CUDA
def test_auto_is_the_first_gpu() -> None:
    assert resolve_device("auto") == "cuda:0"


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestOnTheGpu:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"device": "cuda:0"})

    def test_a_training_worker_holds_no_gpu_memory_between_jobs(
        self,
        start_worker: Callable[[str], Any],
        submit: Callable[..., str],
        status_of: Callable[[str], JobStatus],
        wait_until: Callable[..., None],
    ) -> None:
        worker = start_worker("train")
        job_id = submit()
        wait_until(lambda: status_of(job_id) == JobStatus.SUCCEEDED, "the job's success")
        query = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
        holders = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        assert str(worker.process.pid) not in holders
        assert worker.trainers() == []

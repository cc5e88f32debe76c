"""From ATELIER_DEVICE (auto, cpu, cuda, cuda:N) to the device that torch is told."""

import re
import subprocess
import sys
from pathlib import Path

NVIDIA_DRIVER = Path("/dev/nvidiactl")
KNOWN = re.compile(r"cuda(?::(\d+))?")


class DeviceError(Exception):
    """The device asked for is not there; `code`, `message` and `hint` go into the job's error."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = "device_unavailable"
        self.message = message
        self.hint = hint


def open_device(wanted: str, gpu_memory: float | None) -> str:
    """The device of `resolve_device`; of a GPU this process takes at most that share of the memory.

    Beyond it torch raises the `OutOfMemoryError` of a GPU that is full.
    """
    device = resolve_device(wanted)
    if gpu_memory is not None and device != "cpu":
        import torch

        torch.cuda.set_per_process_memory_fraction(gpu_memory, device)
    return device


def resolve_device(wanted: str) -> str:
    """ "cpu" or "cuda:N". `auto` takes the first GPU where there is one."""
    if wanted == "cpu":
        return "cpu"
    found = KNOWN.fullmatch(wanted)
    if wanted != "auto" and not found:
        raise DeviceError(
            f"ATELIER_DEVICE is {wanted!r}, which names no device.",
            "Set it to auto, cpu, or cuda:N with N the number of a GPU.",
        )
    gpus = count_gpus()
    if wanted == "auto":
        return "cuda:0" if gpus else "cpu"
    number = int(found[1] or 0) if found else 0
    if number >= gpus:
        raise DeviceError(
            f"ATELIER_DEVICE is {wanted!r}, but this machine has {gpus} GPUs that torch can use.",
            "Set ATELIER_DEVICE to auto or cpu, or look at nvidia-smi and CUDA_VISIBLE_DEVICES.",
        )
    return f"cuda:{number}"


def told_device(wanted: str) -> str:
    """The device of `resolve_device` without torch in this process; `wanted` itself where there is none."""
    if wanted == "auto" and not NVIDIA_DRIVER.exists():
        return "cpu"
    resolve = f"from worker.devices import resolve_device; print(resolve_device({wanted!r}))"
    said = subprocess.run([sys.executable, "-c", resolve], capture_output=True, text=True, check=False)
    return said.stdout.strip() or wanted


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0

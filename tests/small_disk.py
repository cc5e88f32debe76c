"""Filesystems that are full or read-only for one command, and for nobody else."""

import subprocess
from pathlib import Path

import pytest


def mounted(options: str, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command that has a filesystem of its own at `folder`; skips where none may be mounted."""
    folder.mkdir(exist_ok=True)
    line = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", line, folder, "true"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip("this system gives its users no mounts of their own")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", line, folder, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )

"""What a trainer pays for at its start."""

import subprocess
import sys

CODE = """
import sys
from pathlib import Path
from models.data import open_dataset
from models.training import train
from tests.models.training.specs import small
list(train(small("dcgan"), open_dataset("digits", Path(sys.argv[1])), Path(sys.argv[1]) / "out"))
print(sorted({"diffusers", "torchvision", "transformers"} & sys.modules.keys()))
"""


def test_a_gan_trains_without_diffusers(tmp_path: object) -> None:
    """Its import takes seconds that every job of a GAN would wait for."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True, timeout=240
    )
    assert ran.stdout.strip() == "[]"

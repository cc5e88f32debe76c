"""What a trainer pays for at its start."""

import subprocess
import sys
from pathlib import Path

from tests.models.training.specs import small

CODE = """
import json, sys
from pathlib import Path
from models.data import open_dataset
from models.spec import load_spec
from models.training import train
folder, spec = Path(sys.argv[1]), load_spec(json.loads(sys.argv[2]))
list(train(spec, open_dataset("digits", folder), folder / "out"))
print(sorted({"diffusers", "torchvision", "transformers"} & sys.modules.keys()))
"""


def test_a_gan_trains_without_diffusers(tmp_path: Path) -> None:
    """Its import takes seconds that every job of a GAN would wait for."""
    spec = small("dcgan", evaluation=None).model_dump_json()
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), spec], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"

"""What a process that trains, scores or samples GANs pays for at its start, and what it need not."""

import subprocess
import sys
from pathlib import Path

from tests.models.training.specs import small

HEAVY = ("diffusers", "torch_fidelity", "torchvision", "transformers")
CODE = f"""
import json, sys
from pathlib import Path
import models.metrics.scorer
from models import checkpoints
from models.data import open_dataset
from models.networks import count_parameters, training_memory_bytes
from models.sampling import generate
from models.sampling.pictures import encode, grid
from models.spec import load_spec
from models.training import Saved, train
folder, spec = Path(sys.argv[1]), load_spec(json.loads(sys.argv[2]))
count_parameters(spec), training_memory_bytes(spec)
events = list(train(spec, open_dataset("digits", folder), folder / "out"))
saved = [event for event in events if isinstance(event, Saved)][-1]
encode(grid(generate(checkpoints.load(folder / "out" / saved.path).networks, spec, [1, 2])), "png")
print(sorted(set({HEAVY}) & sys.modules.keys()))
"""


def test_a_gan_is_trained_and_sampled_without_what_diffusion_and_scores_need(tmp_path: Path) -> None:
    """Each takes seconds to import, and up to 100 MB, that every job of a GAN would wait for."""
    spec = small("dcgan", evaluation=None).model_dump_json()
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), spec], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"

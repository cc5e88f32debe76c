"""Makes what a checkpoint is downloaded as: a zip of the model, its card, and images made from it."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from models.checkpoints import export_diffusers, load
from models.exports.card import Origin, card
from models.exports.programs import export_onnx, export_program
from models.sampling import generate
from models.sampling.pictures import encode, grid
from models.spec import JobSpec
from models.spec.exporting import ExportFormat
from service.errors import NotFound
from service.records import checkpoints, datasets, jobs
from service.records.exports import export_key
from service.records.tables import Checkpoint
from worker.devices import resolve_device
from worker.resources import Resources
from worker.stored_weights import weights

SAMPLES = 16

_MAKERS: dict[ExportFormat, Callable[[Path, Path], None]] = {
    ExportFormat.DIFFUSERS: export_diffusers,
    ExportFormat.ONNX: export_onnx,
    ExportFormat.TORCH_EXPORT: export_program,
    ExportFormat.CARD: lambda _weights, _folder: None,
}
"""From a checkpoint's file to the files of a format in a folder."""


def export(resources: Resources, checkpoint_id: str, exported: ExportFormat) -> str:
    """The artifact key of the archive, which is made at the first request."""
    with resources.database.read() as session:
        checkpoint = checkpoints.get(session, checkpoint_id)
        job_spec = jobs.get(session, checkpoint.job_id).spec
        try:
            dataset = datasets.get(session, job_spec["dataset"])
            name, content_hash = dataset.name, dataset.content_hash
        except NotFound:
            name, content_hash = job_spec["dataset"], None
    key = export_key(checkpoint, exported)
    if resources.artifacts.exists(key):
        return key
    origin = _origin(checkpoint, name, content_hash)
    with tempfile.TemporaryDirectory(prefix="atelier-export-") as temporary:
        folder, archive = Path(temporary) / "model", Path(temporary) / "model.zip"
        folder.mkdir()
        path = weights(resources.artifacts, checkpoint.artifact, checkpoint.sha256)
        _MAKERS[exported](path, folder)
        spec = _draw_samples(path, folder, resources.settings.device)
        (folder / "README.md").write_text(card(spec, origin, exported))
        _pack(folder, archive)
        resources.artifacts.put_file(archive, key)
    _remove_if_deleted(resources, checkpoint_id, key)
    return key


def _origin(checkpoint: Checkpoint, dataset: str, content_hash: str | None) -> Origin:
    return Origin(
        checkpoint=checkpoint.id,
        step=checkpoint.step,
        images=checkpoint.images,
        dataset=dataset,
        content_hash=content_hash,
        scores=checkpoint.scores,
    )


def _draw_samples(path: Path, folder: Path, device: str) -> JobSpec:
    """Write the grid of the first seeds; the spec that the checkpoint was trained by."""
    loaded = load(path, device=resolve_device(device))
    images = generate(loaded.networks, loaded.spec, range(SAMPLES))
    scale = max(1, 64 // images.shape[-1])  # small ones are hard to see
    (folder / "samples.png").write_bytes(encode(grid(images, scale=scale)))
    return loaded.spec


def _pack(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:  # weights do not get smaller
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.write(file, file.relative_to(folder))


def _remove_if_deleted(resources: Resources, checkpoint_id: str, key: str) -> None:
    """The folder of a checkpoint that was deleted meanwhile has gone already; nothing else deletes this."""
    try:
        with resources.database.read() as session:
            checkpoints.get(session, checkpoint_id)
    except NotFound:
        resources.artifacts.delete(key)
        raise

"""Archives of a checkpoint: what is in them, made once, and gone with the checkpoint."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from models.spec.exporting import ExportFormat
from service.errors import NotFound
from service.records import checkpoints, retention
from worker import exporting
from worker.exporting import export
from worker.resources import Resources

Make = Callable[..., str]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FILES = {
    ExportFormat.ONNX: {"model.onnx"},
    ExportFormat.TORCH_EXPORT: {"model.pt2"},
    ExportFormat.CARD: set(),
}


@pytest.mark.parametrize("exported", FILES, ids=str)
def test_the_card_and_the_images_are_beside_the_model(
    resources: Resources, create_checkpoint: Make, exported: ExportFormat
) -> None:
    """Breaks when a format comes without its card, or the card does not tell the dataset's hash."""
    checkpoint_id = create_checkpoint()
    key = export(resources, checkpoint_id, exported)
    with zipfile.ZipFile(resources.artifacts.open(key)) as archive:
        assert set(archive.namelist()) == FILES[exported] | {"README.md", "samples.png"}
        text = archive.read("README.md").decode()
        assert Image.open(io.BytesIO(archive.read("samples.png"))).size[0] > 256
    with resources.database.read() as session:
        dataset_hash = exporting.datasets.get(session, "digits").content_hash
    assert dataset_hash is not None
    assert dataset_hash in text
    version = resources.artifacts.describe(key).version
    assert export(resources, checkpoint_id, exported) == key
    assert resources.artifacts.describe(key).version == version


def test_an_export_lies_below_what_is_given_up(resources: Resources, create_checkpoint: Make) -> None:
    """Breaks when the exports of a deleted checkpoint stay for ever."""
    checkpoint_id = create_checkpoint()
    key = export(resources, checkpoint_id, ExportFormat.CARD)
    with resources.database.transaction() as session:
        folder = checkpoints.folder_of(checkpoints.get(session, checkpoint_id))
        retention.remove(session, checkpoint_id)
    resources.artifacts.delete(folder)
    assert not resources.artifacts.exists(key)


def test_a_checkpoint_that_is_deleted_meanwhile_leaves_no_export(
    resources: Resources, create_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a file is stored where nothing looks for files to delete any more."""
    checkpoint_id = create_checkpoint()
    pack = exporting._pack

    def deleting(*arguments: Any) -> None:
        pack(*arguments)
        with resources.database.transaction() as session:
            retention.remove(session, checkpoint_id)

    monkeypatch.setattr(exporting, "_pack", deleting)
    with resources.database.read() as session:
        folder = checkpoints.folder_of(checkpoints.get(session, checkpoint_id))
    with pytest.raises(NotFound):
        export(resources, checkpoint_id, ExportFormat.CARD)
    assert resources.artifacts.names(folder) == {"checkpoint.safetensors"}

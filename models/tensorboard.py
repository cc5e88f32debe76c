"""Writes a run's events as a TensorBoard event file, without torch's writer and what it imports."""

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event as Record
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from models.training.events import Alert, Evaluated, Event, Progress, Sampled, Started

FOLDER = "tensorboard"
_QUEUE = 1000  # records that may wait for the writing thread before `add` does
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of a PNG's colour types


class TensorBoardWriter:
    """One event file of a run, below `tensorboard` in the run's folder `out`.

    A thread appends to it, so that `add` waits for no disk. What `flush` has returned for is in the file
    whatever becomes of the process. A file that cannot be written raises OSError at a later call.
    What files of earlier attempts tell of steps behind `resumed` is dropped by TensorBoard.
    """

    def __init__(self, out: Path, resumed: int = 0) -> None:
        self._out = out
        folder = out / FOLDER
        there = set(folder.glob("*"))
        self._writer = EventFileWriter(str(folder), max_queue_size=_QUEUE)
        (self.path,) = set(folder.glob("*")) - there
        log = SessionLog(status=SessionLog.START)
        self._writer.add_event(Record(wall_time=time.time(), step=resumed + 1, session_log=log))

    def add(self, event: Event) -> None:
        """Take an event in; those with nothing to show are left out.

        The picture of a `Sampled` is read at once: whoever is told of it next may move it.
        """
        match event:
            case Started():
                self._text("spec", _code(json.dumps(event.spec, indent=2)), 0)
            case Progress():
                self._scalars(event.metrics | {"rate/images_per_second": event.images_per_second}, event.step)
            case Evaluated():
                self._scalars(event.scores, event.step)
            case Sampled():
                self._image("samples", (self._out / event.path).read_bytes(), event.step)
            case Alert():
                self._text("alerts", f"**{event.level}** {event.message}", event.step)

    def flush(self) -> int:
        """Wait until all that was added is in the file; the file's size in bytes."""
        self._writer.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        """Write what waits and end; a second call does nothing."""
        self._writer.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        self._write([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step)

    def _image(self, tag: str, png: bytes, step: int) -> None:
        width, height, _, colour_type = struct.unpack(">IIBB", png[16:26])  # a PNG begins with its header
        image = Summary.Image(
            width=width, height=height, colorspace=_CHANNELS[colour_type], encoded_image_string=png
        )
        self._write([Summary.Value(tag=tag, image=image)], step)

    def _text(self, tag: str, markdown: str, step: int) -> None:
        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()], tensor_shape=TensorShapeProto())
        self._write([Summary.Value(tag=tag, metadata=plugin, tensor=tensor)], step)

    def _write(self, values: list[Summary.Value], step: int) -> None:
        self._writer.add_event(Record(wall_time=time.time(), step=step, summary=Summary(value=values)))


def _code(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())

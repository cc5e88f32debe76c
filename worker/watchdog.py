"""Notices a trainer that lives and does not move: a deadlock, a file that hangs, a GPU that never answers."""

import time
from typing import Any

from worker.process import Event


class Watchdog:
    """Hears every event of a trainer; `expired` after `patience` seconds of silence.

    A trainer that moves tells so each second (`worker.pulse`), however long its step or evaluation takes.
    """

    def __init__(self, patience: float, step: int) -> None:
        self._patience = patience
        self._step = step
        self._heard_at = time.monotonic()

    def heard(self, event: Event) -> None:
        """To be called once the event is dealt with: the trainer is not to blame for how long that took."""
        self._heard_at = time.monotonic()
        self._step = event.get("step") or self._step

    @property
    def expired(self) -> bool:
        return time.monotonic() - self._heard_at > self._patience

    def error(self) -> dict[str, Any]:
        return {
            "code": "trainer_hung",
            "message": f"The trainer stood still for {self._patience:g} s behind step {self._step}.",
            "hint": "GET /v1/jobs/{id}/logs has at its end where each of its threads was. If one operation "
            "takes that long on this machine, raise ATELIER_PROGRESS_TIMEOUT, or lower batch_size.",
        }

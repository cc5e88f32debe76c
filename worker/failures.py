"""From any exception to the `{code, message, hint}` that records keep and clients read."""

import errno
import signal
from typing import Any

from models import out_of_memory

SPACE_HINT = (
    "Free some, or lower checkpoints.keep_last or ATELIER_CHECKPOINT_BYTES; POST /v1/jobs/{id}/resume then "
    "goes on from the last checkpoint."
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

CHECKPOINT_DELETED = {
    "code": "checkpoint_deleted",
    "message": "The checkpoint was deleted before its turn came.",
    "hint": "GET /v1/checkpoints lists the checkpoints.",
}


def failure(
    error: BaseException, *, code: str, hint: str, memory_hint: str = out_of_memory.HINT
) -> dict[str, Any]:
    """What the error says of itself; `code` and `hint` are for one that says nothing but its message."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    if own := getattr(error, "code", None):
        said = {"code": str(own), "message": message, "hint": getattr(error, "hint", None) or hint}
        step = getattr(error, "step", None)
        return said if step is None else {**said, "step": step}
    if out_of_memory.is_out_of_memory(error):
        return {"code": "out_of_memory", "message": message, "hint": memory_hint}
    if is_no_space(error):
        return {"code": "no_space", "message": f"There is no room to write: {message}", "hint": SPACE_HINT}
    return {"code": code, "message": f"{type(error).__name__}: {message}", "hint": hint}


def is_no_space(error: BaseException) -> bool:
    """safetensors says it in words, Python by a number."""
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    return "no space left" in str(error).lower() or "file too large" in str(error).lower()


def crash_error(exit_status: int, tail: str) -> dict[str, Any]:
    """What is known of a trainer that ended without a last word."""
    name = signal_name(-exit_status) if exit_status < 0 else None
    how = f"was killed by {name}" if name else f"exited with status {exit_status}"
    hint = "GET /v1/jobs/{id}/logs has all that it wrote."
    if name == "SIGKILL":
        hint = (
            "The kernel ends a process this way when memory runs out (see dmesg): lower batch_size, or raise "
            "accumulation, or give the worker more memory."
        )
    message = f"The trainer {how} before it finished." + (f" Its last words:\n{tail}" if tail else "")
    return {"code": "trainer_crashed", "message": message, "signal": name, "hint": hint}


def signal_name(number: int) -> str:
    known = {member.value: member.name for member in signal.Signals}
    return known.get(number, f"signal {number}")

"""From any exception to the `{code, message, hint}` that records keep and clients read."""

import errno

from models import out_of_memory

SPACE_HINT = (
    "Free some, or lower checkpoints.keep_last or ATELIER_CHECKPOINT_BYTES; POST /v1/jobs/{id}/resume then "
    "goes on from the last checkpoint."
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def failure(
    error: BaseException, *, code: str, hint: str, memory_hint: str = out_of_memory.HINT
) -> dict[str, str]:
    """What the error says of itself; `code` and `hint` are for one that says nothing but its message."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    if own := getattr(error, "code", None):
        return {"code": str(own), "message": message, "hint": getattr(error, "hint", None) or hint}
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

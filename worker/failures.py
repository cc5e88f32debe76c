"""From any exception to the `{code, message, hint}` that records keep and clients read."""

MEMORY_HINT = (
    "Lower batch_size, or keep it and raise accumulation; a smaller data.resolution and narrower networks "
    "take less, too. A dry run of the job estimates its memory."
)


def failure(error: BaseException, *, code: str, hint: str, memory_hint: str = MEMORY_HINT) -> dict[str, str]:
    """What the error says of itself; `code` and `hint` are for one that says nothing but its message."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    if is_out_of_memory(error):
        return {"code": "out_of_memory", "message": message, "hint": memory_hint}
    if own := getattr(error, "code", None):
        return {"code": str(own), "message": message, "hint": getattr(error, "hint", None) or hint}
    return {"code": code, "message": f"{type(error).__name__}: {message}", "hint": hint}


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it by a class on a GPU, and in the words of a RuntimeError on a CPU."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in words
        or "can't allocate memory" in words
        or "not enough memory" in words
    )

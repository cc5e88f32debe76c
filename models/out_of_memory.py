"""Errors that mean that memory ran out, by whatever name; and what to do about them."""

HINT = (
    "Lower batch_size, or keep it and raise accumulation; a smaller data.resolution and narrower networks "
    "take less, too. A dry run of the job estimates its memory."
)


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

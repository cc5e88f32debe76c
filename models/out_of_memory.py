"""Errors that mean that memory ran out, by whatever name; and what to do about them."""

HINT = (
    "Lower batch_size, or keep it and raise accumulation; a smaller data.resolution and narrower networks "
    "take less, too. A dry run of the job estimates its memory."
)

# The last two are oneDNN's, which finds no room for the code that it makes, or for what it rearranges.
_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",
    "could not create a memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it by a class on a GPU, and in the words of a RuntimeError on a CPU."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in words for phrase in _PHRASES)
    )

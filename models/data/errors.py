"""What can go wrong with a data set as a whole, and with one of its files."""

from collections.abc import Mapping, Sequence


class DatasetError(Exception):
    """A data set that cannot be made or opened: a stable code, what was wrong, and what to do about it.

    `dropped` is the report of the files that were left out, where they are the reason.
    """

    def __init__(
        self, code: str, message: str, hint: str, *, dropped: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(f"{message} {hint}".strip())
        self.code = code
        self.message = message
        self.hint = hint
        self.dropped = tuple(dropped)


class FileRefusedError(Exception):
    """One file that cannot become a training image; the message is the reason that the report shows."""

"""What can go wrong with a data set as a whole, and with one of its files."""


class DatasetError(Exception):
    """A data set that cannot be made or opened: a stable code, what was wrong, and what to do about it."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}".strip())
        self.code = code
        self.message = message
        self.hint = hint


class FileRefusedError(Exception):
    """One file that cannot become a training image; the message is the reason that the report shows."""

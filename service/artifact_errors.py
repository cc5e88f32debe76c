"""What a store's own errors are to everybody else: a file is not there, or the store cannot be used."""

import contextlib
import errno
from collections.abc import Iterator

from service.errors import AtelierError, NotFound, Unavailable

ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def explained(key: str | None = None) -> Iterator[None]:
    """Any error of the block as `Unavailable`; that the `key` which is read is not there, as `NotFound`."""
    try:
        yield
    except (AtelierError, MemoryError):
        raise
    except ABSENT as error:
        # Without this, a wrong bucket would look like lost checkpoints, and their jobs would begin anew.
        if key is None or _lacks_bucket(error):
            raise unavailable(error) from error
        raise missing(key) from None
    except Exception as error:  # every backend has errors of its own
        raise unavailable(error) from error


def missing(key: str) -> NotFound:
    return NotFound(
        "artifact_missing", f"The artifact {key!r} is not stored.", hint="It may have been deleted."
    )


def unavailable(error: BaseException | None = None) -> Unavailable:
    """What to tell clients; the error itself may name addresses, and belongs into the log."""
    if isinstance(error, OSError) and error.errno in FULL:
        return Unavailable(
            "artifacts_full",
            "The artifact store is full.",
            hint="Nothing of this file was kept. ATELIER_ARTIFACTS_URL says where space has to be freed.",
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return Unavailable(
            "artifacts_unavailable",
            "The artifact store refuses access.",
            hint="Check who may write at ATELIER_ARTIFACTS_URL: by the folder's mode, or the bucket's keys.",
        )
    return Unavailable(
        "artifacts_unavailable",
        "The artifact store cannot be written and read.",
        hint="Check ATELIER_ARTIFACTS_URL and whether it can be reached; the log has the store's own words.",
    )


def _lacks_bucket(error: BaseException) -> bool:
    answer = getattr(error.__cause__, "response", None) or {}
    return bool(answer.get("Error", {}).get("Code") == "NoSuchBucket")

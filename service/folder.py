"""The data folder of the embedded stack: its lock, its sockets' place, its admin key."""

import fcntl
import os
import secrets
import tempfile
from contextlib import closing
from pathlib import Path

from service.errors import AtelierError
from service.records import keys
from service.records.database import Database

SOCKET_PATH_BYTES = 90  # the limit is 104 (macOS) or 108 (Linux), and supervisord appends its process id


class LocalError(AtelierError):
    """The embedded stack cannot start or go on."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(code, message, hint=hint)


def lock_folder(data: Path) -> int:
    """Take the folder for this process; the lock goes with the last process that holds it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"{data} cannot be used: {error.strerror}"
        raise LocalError("bad_folder", message, "Give a folder that can be written in: --data DIR.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        message = f"another `atelier up` (process {owner}) runs on {data}"
        raise LocalError(
            "data_in_use", message, "Stop it first, or give this one a folder: --data DIR."
        ) from None
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def socket_folder(preferred: Path) -> Path:
    """Where unix sockets go: `preferred`, or a short temporary folder if that path is too long for them."""
    preferred.mkdir(mode=0o700, exist_ok=True)
    if len(os.fsencode(preferred / "supervisor.sock")) <= SOCKET_PATH_BYTES:
        return preferred
    return Path(tempfile.mkdtemp(prefix="atelier-", dir="/tmp"))  # TMPDIR may be too long as well


def ensure_key(database_url: str, file: Path, given: str | None) -> bool:
    """Make `file` hold a valid admin key: the given one, its own, or a new one; True for a new one."""
    if given:
        write_whole(file, given + "\n", mode=0o600)
        return False
    with closing(Database(database_url)) as database, database.transaction() as session:
        if file.is_file() and keys.verify(session, file.read_text().strip()):
            return False
        _, secret = keys.create(session, "admin")
        write_whole(
            file, secret + "\n", mode=0o600
        )  # before the commit: a key that nobody knows is never stored
    return True


def write_whole(file: Path, text: str, *, mode: int) -> None:
    """Write a file that is never seen half written, nor with wider permissions than `mode`."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        stream.write(text)
    part.replace(file)

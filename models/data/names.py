"""What an entry's name may say: no file is ever written under it, it only names a class and a report line."""

import re
import unicodedata

from models.data.errors import FileRefusedError

# Files that an operating system adds by itself; they are counted in the report, not listed.
LITTER_FOLDERS = frozenset({"__MACOSX", ".Spotlight-V100", ".Trashes", ".fseventsd"})
LITTER_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
LONGEST = 1000  # characters: the names of half a million entries are held in memory


def display(name: str, limit: int = 200) -> str:
    """The name as a report may show it: valid Unicode, no control characters, at most `limit` characters."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode("utf-8"))
    text = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def split(name: str) -> tuple[str, ...]:
    """The folders and the file of an entry name; refused if it is too long or leads out of the archive."""
    if len(name) > LONGEST:
        raise FileRefusedError(f"its name is longer than {LONGEST:,} characters")
    unified = name.replace("\\", "/")
    if unified.startswith("/") or re.match(r"[A-Za-z]:", unified):
        raise FileRefusedError("its path is absolute; paths must stay inside the archive")
    parts = tuple(part for part in unified.split("/") if part not in {"", "."})
    if ".." in parts:
        raise FileRefusedError("its path contains '..'; paths must stay inside the archive")
    if not parts:
        raise FileRefusedError("it has no name")
    return parts


def is_litter(parts: tuple[str, ...]) -> bool:
    """Whether the operating system wrote this file (`__MACOSX`, `._x`, `.DS_Store`, `Thumbs.db`)."""
    file = parts[-1].casefold()
    return file in LITTER_FILES or file.startswith("._") or not LITTER_FOLDERS.isdisjoint(parts)


def is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)

"""The pages of docs/ whose tables these scripts write: a script's lines stand between two markers."""

from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
END = "<!-- end -->"


def write(page: str, script: str, lines: Iterable[str]) -> None:
    """Replace what stands in docs/`page` between `<!-- table: benchmarks/script.py -->` and the end."""
    path, begin = DOCS / page, f"<!-- table: benchmarks/{script}.py -->"
    head, found, rest = path.read_text().partition(begin)
    _, ended, tail = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{path} lacks {begin} or {END} behind it")
    path.write_text("\n".join([head + begin, *lines, END]) + tail)

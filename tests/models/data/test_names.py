"""Entry names are only ever shown, and only when they cannot hurt what shows them."""

import pytest

from models.data import names
from models.data.errors import FileRefusedError


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "\\windows\\x.png", "C:\\x.png", "c:x.png", "../x.png", "a/../../x.png", "a\\..\\x.png"],
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(FileRefusedError, match="inside the archive"):
        names.split(name)


@pytest.mark.parametrize("name", ["a/b.png", "./a//b.png", "a\\b.png"])
def test_names_are_split_at_either_slash(name: str) -> None:
    assert names.split(name) == ("a", "b.png")


def test_dots_inside_a_name_are_harmless() -> None:
    assert names.split("a..b/c...png") == ("a..b", "c...png")


def test_shown_names_are_short_and_printable() -> None:
    shown = names.display("a\x1b[31m\n\u202e\udcff" + "x" * 1000)
    assert len(shown) == 200
    assert shown.isprintable()
    shown.encode("utf-8")


def test_equal_names_in_two_normal_forms_are_one_class() -> None:
    """macOS writes é as two characters, other systems as one."""
    assert names.display("caf\u00e9") == names.display("cafe\u0301")


@pytest.mark.parametrize("name", ["__MACOSX/a/1.png", "a/.DS_Store", "a/._1.png", "Thumbs.db"])
def test_litter_is_recognised(name: str) -> None:
    assert names.is_litter(names.split(name))
    assert not names.is_litter(("a", "1.png"))

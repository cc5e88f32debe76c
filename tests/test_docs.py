"""The documents say what is: the spec reference is the schema's, and links lead somewhere."""

import re
from pathlib import Path

import pytest

from models.presets import PRESETS
from models.spec.reference import reference

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_spec_reference_is_written_from_the_schema() -> None:
    """If this fails: python -m models reference > docs/spec.md."""
    assert (ROOT / "docs" / "spec.md").read_text() == reference()


def test_every_field_and_enum_of_the_spec_is_described() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_preset_is_in_the_readme_or_the_docs() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in PRESETS if f"`{name}`" not in text] == []

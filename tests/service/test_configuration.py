"""docs/configuration.md and the settings are one list."""

import re
from pathlib import Path

from service.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def rows(title: str) -> dict[str, str]:
    """The variables in the table under a heading, with their defaults."""
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(ATELIER_\w+)` \| (.*?) \|", section, flags=re.MULTILINE))


def test_every_setting_is_documented_and_every_documented_variable_is_one() -> None:
    """A setting that no operator can find, or a documented one that does nothing, fails here."""
    assert set(rows("The service")) == {f"ATELIER_{name.upper()}" for name in Settings.model_fields}


def test_the_documented_defaults_are_the_real_ones() -> None:
    """A default that was changed in the code alone misleads whoever reads the table."""
    for name, field in Settings.model_fields.items():
        documented = rows("The service")[f"ATELIER_{name.upper()}"].strip("`")
        if field.default_factory is not None:
            assert documented
        elif field.default is None:
            assert documented == "none"
        elif isinstance(field.default, float):
            assert float(documented) == field.default
        else:
            assert documented == str(field.default)


def test_the_client_reads_what_is_documented() -> None:
    """A renamed client variable would silently fall back to the local stack."""
    source = (Path(__file__).parents[2] / "service" / "client.py").read_text()
    assert set(rows("The client")) == set(re.findall(r"ATELIER_(?:URL|API_KEY)", source))

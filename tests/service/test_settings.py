"""Settings come from the environment, refuse what is wrong by name, and never show a password."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from service.errors import Invalid
from service.records.database import build_engine
from service.settings import Settings, load_settings

GIVEN = "postgresql://atelier:hunter2@db/atelier"


def test_without_any_variable_everything_is_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.data == tmp_path / "atelier-data"
    assert settings.database_url == f"sqlite:///{tmp_path}/atelier-data/atelier.db"
    assert settings.artifacts_url == f"{tmp_path}/atelier-data/artifacts"


def test_the_database_and_the_artifacts_move_with_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", "/somewhere")
    settings = load_settings()
    assert settings.database_url == "sqlite:////somewhere/atelier.db"
    assert settings.artifacts_url == "/somewhere/artifacts"


def test_the_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an address % and ? mean something: the database would be a file elsewhere."""
    folder = tmp_path / "50 %25 off? [yes] #1"
    folder.mkdir()
    monkeypatch.setenv("ATELIER_DATA", str(folder))
    build_engine(load_settings().database_url).connect().close()
    assert [file.name for file in tmp_path.rglob("*")] == [folder.name, "atelier.db"]


def test_variables_are_read_and_empty_ones_are_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATABASE_URL", GIVEN)
    monkeypatch.setenv("ATELIER_DEVICE", "cuda:1")
    monkeypatch.setenv("ATELIER_ADMIN_KEY", "")
    monkeypatch.setenv("ATELIER_REDIS_URL", "")
    settings = load_settings()
    assert (settings.database_url, settings.device, settings.admin_key) == (GIVEN, "cuda:1", None)
    assert settings.redis_url.startswith("redis://127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ATELIER_DEVICE", "gpu"),
        ("ATELIER_MAX_UPLOAD_BYTES", "0"),
        ("ATELIER_WAIT_SECONDS", "soon"),
        ("ATELIER_LOG_LEVEL", "LOUD"),
        ("ATELIER_DATABASE_URL", "mysql://root:hunter2@db/atelier"),
        ("ATELIER_DATABASE_URL", "sqlite://"),
        ("ATELIER_DATABASE_URL", "/var/atelier.db"),
        ("ATELIER_REDIS_URL", "redis:6379"),
        ("ATELIER_REDIS_URL", "amqp://guest:hunter2@queue"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Invalid, match=variable) as raised:
        load_settings()
    assert [problem["path"] for problem in raised.value.errors] == [variable]
    assert "hunter2" not in str(raised.value)


def test_a_variable_that_is_fixed_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded stack has its own database, whatever the variable says."""
    monkeypatch.setenv("ATELIER_DATABASE_URL", "nonsense")
    assert load_settings(database_url=GIVEN).database_url == GIVEN


def test_passwords_are_not_in_what_settings_print(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        database_url=GIVEN, redis_url="redis://:hunter2@redis/0", admin_key=SecretStr("hunter2" * 8)
    )
    assert "hunter2" not in f"{settings!r} {settings}"
    monkeypatch.setenv("ATELIER_DATABASE_URL", GIVEN)
    monkeypatch.setenv("ATELIER_DEVICE", "hunter2")
    with pytest.raises(Invalid) as raised:
        load_settings()
    assert "hunter2" not in f"{raised.value!r} {raised.value} {raised.value.__cause__}"


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"say in its Field what {name} does: the documentation is made from it"
        assert field.description.endswith(".")

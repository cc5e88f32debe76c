"""Everything an operator can set, read once from `ATELIER_*` variables in an entry point and passed down."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import Invalid

MIB = 1024**2
PREFIX = "ATELIER_"


def _absolute(path: Path) -> Path:
    # Workers may be started from another folder, and must still find the same files.
    return path.expanduser().absolute()


def _like(expected: str, pattern: str) -> AfterValidator:
    """Refuses an address of another kind at the start, not at its first use; never repeats it."""

    def check(url: str) -> str:
        if not re.fullmatch(pattern, url):
            raise ValueError(f"expected {expected}")
        return url

    return AfterValidator(check)


DatabaseUrl = Annotated[
    str,
    _like(
        "postgresql://user:password@host/name, or sqlite:///path/to/file.db",
        r"postgres(ql)?(\+psycopg)?://.*|sqlite(\+pysqlite)?:///(?!:memory:).+",
    ),
]
RedisUrl = Annotated[
    str,
    _like(
        "redis://:password@host:6379/0, rediss://… or unix:///path/to/socket",
        r"rediss?://.*|(unix|redis\+socket)://.*/.+",
    ),
]
GpuMemory = Annotated[float | None, Field(gt=0, le=1)]


def database_in(folder: Path) -> str:
    """The address of the embedded database of a data folder, whatever its name is."""
    return "sqlite:///" + str(folder / "atelier.db").replace("%", "%25").replace("?", "%3F")


def _database_in(values: dict[str, Any]) -> str:
    return database_in(values["data"])


def _artifacts_in(values: dict[str, Any]) -> str:
    return str(values["data"] / "artifacts")


class Settings(BaseSettings):
    """The service's settings; the variable of a field is its name in capitals behind `ATELIER_`.

    The two addresses that may carry a password are kept out of `repr`, so that settings can be logged.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=Path("atelier-data"),
        validate_default=True,
        description="Folder of everything the service keeps on this machine: the embedded database, the "
        "artifacts unless they are elsewhere, and caches.",
    )
    database_url: DatabaseUrl = Field(
        default_factory=_database_in,
        repr=False,
        description="The database: `postgresql://user:password@host/name`, or `sqlite:///path` for one "
        "machine. Default: the file `atelier.db` in the data folder.",
    )
    redis_url: RedisUrl = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        description="The Redis that carries messages to workers: `redis://:password@host:6379/0`, "
        "`rediss://…` for TLS, or `unix:///path/to/socket`. It holds no job: it may be emptied at any time.",
    )
    artifacts_url: str = Field(
        default_factory=_artifacts_in,
        description="Where checkpoints, images and datasets are stored: a folder that every machine of the "
        "deployment mounts, or `s3://bucket/prefix`. Default: `artifacts` in the data folder.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda:\d{1,3})$",
        description="What workers compute on: `auto` (the first GPU, else the CPU), `cpu`, or `cuda:N`.",
    )
    train_gpu_memory: GpuMemory = Field(
        default=None,
        description="Share of its GPU's memory that a trainer may take, such as 0.7, so that images can be "
        "made on the same GPU meanwhile. Default: no limit.",
    )
    sample_gpu_memory: GpuMemory = Field(
        default=None,
        description="Share of its GPU's memory that a sampling worker may take, such as 0.25. What does not "
        "fit is made in smaller batches. Default: no limit.",
    )
    preload: bool = Field(
        default=True,
        description="Whether a training worker keeps a process with torch loaded, from which it forks "
        "trainers.",
    )
    progress_timeout: float = Field(
        default=600.0,
        ge=30,
        description="How long a trainer may stand still before it is ended and tried again, in seconds.",
    )
    inception: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None,
        description="File of Inception's weights, for scores with `extractor: inception`. Without it "
        "they are downloaded once, into ~/.cache/atelier.",
    )
    max_upload_bytes: int = Field(
        default=2048 * MIB, gt=0, description="Largest dataset archive that is accepted, in bytes."
    )
    max_json_bytes: int = Field(
        default=MIB, gt=0, description="Largest request body other than an upload that is accepted, in bytes."
    )
    wait_seconds: float = Field(
        default=60.0,
        ge=0,
        description="How long a request for images waits for them when the client does not say "
        "(`Prefer: wait=N`), in seconds.",
    )
    max_wait_seconds: float = Field(
        default=300.0, ge=0, description="The longest wait that a client may ask for, in seconds."
    )
    describe_seconds: float = Field(
        default=5.0,
        ge=0,
        description="How long a dry run waits for a worker to count parameters and memory before it answers "
        "without them, in seconds.",
    )
    checkpoint_bytes: int | None = Field(
        default=None,
        gt=0,
        description="How many bytes all checkpoints may take together; beyond it the oldest go. The best, "
        "the newest two and the pinned of every job stay even so. Default: no limit.",
    )
    warm_bytes: int = Field(
        default=2048 * MIB,
        gt=0,
        description="How many bytes of loaded checkpoints a sampling worker keeps in memory, those that were "
        "used last; the one in use stays in any case.",
    )
    images_kept_seconds: float | None = Field(
        default=None,
        gt=0,
        description="How long images are kept once they are made, in seconds; then they and their files are "
        "deleted. Their seeds make them again. Default: as long as their checkpoint.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe log message that is written."
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="An API key to accept from the first start, at least 32 characters long. Without it the "
        "first start makes one and prints it once.",
    )


def load_settings(**fixed: Any) -> Settings:
    """The settings of this process's environment; `Invalid` names every variable that is wrong.

    A variable whose value is `fixed` is not read.
    """
    try:
        return Settings(**fixed)
    except ValidationError as error:
        problems = [
            {
                "path": PREFIX + ".".join(str(part) for part in problem["loc"]).upper(),
                "message": problem["msg"].removeprefix("Value error, "),
            }
            for problem in error.errors(include_input=False, include_context=False, include_url=False)
            if problem["type"] != "default_factory_not_called"  # made of another one, which is named
        ]
        named = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
        raise Invalid(
            "bad_settings",
            f"These settings are wrong: {named}.",
            hint="docs/configuration.md lists every variable with its meaning and default.",
            errors=problems,
        ) from None

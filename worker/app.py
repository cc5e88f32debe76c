"""The Celery application of the workers: `celery -A worker.app worker -Q train|sample|prepare`."""

from celery import Celery
from kombu import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from service.queue import broker_url
from service.settings import Settings, load_settings

QUEUES = ("train", "sample", "prepare")

# The row in SQL is the truth and a message carries an id, so a message that is lost costs a few seconds and
# one that comes twice costs a refused claim. Every setting below follows from that.
CONFIGURATION: dict[str, object] = {
    # Acknowledged late, a task longer than the visibility timeout comes twice; the lease recovers instead.
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    # No message is reserved behind a run of ten hours while another worker stands idle.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A half-open socket is found by these and not by hanging for ever.
    "broker_transport_options": {
        "visibility_timeout": 600,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # A Redis that is away for a minute must not end days of training.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # State lives in SQL: no results, no events, and nothing but JSON is ever decoded.
    "result_backend": None,
    "task_ignore_result": True,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    # A prefork child may not have children, and only the main process hears of a shutdown; the trainer is a
    # subprocess of its own in any case.
    "worker_pool": "threads",
    "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    "task_default_queue": "prepare",
    "task_create_missing_queues": False,
    "enable_utc": True,
}


def create_app(settings: Settings) -> Celery:
    """The Celery application for these settings; nothing is connected until a worker starts."""
    # kombu picks the transport by the address; ours is its Redis one that survives messages it cannot read.
    TRANSPORT_ALIASES.update(redis="worker.broker:Transport", rediss="worker.broker:Transport")
    app = Celery("atelier", broker=broker_url(settings.redis_url), include=["worker.tasks"])
    app.conf.update(CONFIGURATION)
    return app


settings = load_settings()
app = create_app(settings)

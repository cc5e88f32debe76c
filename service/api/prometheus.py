"""What Prometheus scrapes: the requests that this process answered, and the work in each state."""

import time
from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.files import made_content
from service.api.problems import responses
from service.records import counts
from service.records.database import Database

router = APIRouter(tags=["health"])

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300)


class WorkInEachState(Collector):
    """Counted in SQL at each scrape, so that every API process says the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._database.read() as session:
            counted = counts.by_status(session)
        for name, states in counted.items():
            family = GaugeMetricFamily(f"atelier_{name}", f"{name} in each state", labels=["status"])
            for state, number in states.items():
                family.add_metric([state], number)
            yield family


class MeasureRequests:
    """ASGI middleware: seconds of each request by operation and status, waiting included."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = status or 500  # answered further out, by Starlette's ServerErrorMiddleware
            raise
        finally:
            status = status or 499  # the client left before an answer began
            # Operations are few; paths hold ids, and anybody can ask for any path.
            operation = getattr(scope.get("route"), "operation_id", None) or "none"
            self._seconds.labels(operation, str(status)).observe(time.perf_counter() - began)


def install(app: FastAPI, database: Database) -> None:
    """Measure the app's requests from now on, into a registry of its own."""
    registry = CollectorRegistry()
    seconds = Histogram(
        "atelier_http_request_seconds",
        "Seconds of HTTP requests of this process.",
        ["operation", "status"],
        buckets=BUCKETS,
        registry=registry,
    )
    registry.register(WorkInEachState(database))
    app.state.registry = registry
    app.add_middleware(MeasureRequests, seconds=seconds)


@router.get(
    "/metrics",
    operation_id="getServiceMetrics",
    summary="Metrics of the service, for Prometheus",
    response_class=Response,
    responses={**made_content("text/plain"), **responses()},
)
def get_service_metrics(request: Request) -> Response:
    """Request times of this process; jobs, datasets and image requests by status."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)

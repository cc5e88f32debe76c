"""Whether the process is alive, and whether the parts it needs answer."""

import logging
from collections.abc import Callable

from fastapi import APIRouter, Response

from service.api.dependencies import Artifacts, Database, Publisher
from service.api.replies import HealthReply, PartReply, ReadinessReply

logger = logging.getLogger(__name__)
router = APIRouter(tags=["health"])


@router.get("/livez", operation_id="getLiveness", summary="Is the process alive?")
async def get_liveness() -> HealthReply:
    # In no thread, unlike other routes: that they all wait for the database is no reason for a restart.
    return HealthReply()


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Can requests be served?",
    responses={503: {"model": ReadinessReply, "description": "The database or the artifact store is away."}},
)
def get_readiness(
    response: Response, database: Database, artifacts: Artifacts, publisher: Publisher
) -> ReadinessReply:
    """The state of each part. Jobs are accepted without Redis, so that its state is only shown."""
    parts = {
        "sql": _probe(database.check, "does not answer; no request can be served"),
        "redis": _probe(publisher.check, "does not answer; jobs are accepted and start when it does"),
        "artifacts": _probe(artifacts.check, "cannot be used; files can be neither read nor stored"),
    }
    if not (parts["sql"].ok and parts["artifacts"].ok):
        response.status_code = 503
        return ReadinessReply(status="unready", parts=parts)
    return ReadinessReply(status="ready" if parts["redis"].ok else "degraded", parts=parts)


def _probe(check: Callable[[], None], otherwise: str) -> PartReply:
    """What the part itself says may name addresses, and this reply is public: it goes to the log alone."""
    try:
        check()
    except Exception as error:  # noqa: BLE001  whatever is wrong with a part, this reply is the place to say so
        logger.warning("a part of the service %s: %r", otherwise, error.__cause__ or error)
        return PartReply(ok=False, message=otherwise)
    return PartReply(ok=True, message=None)

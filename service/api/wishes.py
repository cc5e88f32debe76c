"""How long a client wants to wait for what a worker makes: the header `Prefer`."""

from typing import Annotated, Any

from fastapi import Depends, Request

from service.api.dependencies import ServiceSettings
from service.api.negotiation import Preferences, preferences


async def _images(request: Request, settings: ServiceSettings) -> Preferences:
    return _read(request, settings, min(settings.wait_seconds, settings.max_wait_seconds))


async def _evaluation(request: Request, settings: ServiceSettings) -> Preferences:
    return _read(request, settings, 0.0)


def _read(request: Request, settings: ServiceSettings, default: float) -> Preferences:
    header = ", ".join(request.headers.getlist("prefer"))
    return preferences(header, default=default, longest=settings.max_wait_seconds)


WaitingWish = Annotated[Preferences, Depends(_images)]
"""Of a client that waits unless it says otherwise."""

AsyncWish = Annotated[Preferences, Depends(_evaluation)]
"""Of a client that is answered at once unless it says otherwise."""

PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: answer 202 after N seconds; `respond-async`: at once. RFC 7240.",
    "schema": {"type": "string"},
    "example": "wait=60",
}

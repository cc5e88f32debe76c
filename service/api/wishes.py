"""How long a client wants to wait for what a worker makes: the header `Prefer`."""

from typing import Annotated, Any

from fastapi import Depends, Request

from service.api.dependencies import parts_of
from service.api.negotiation import Preferences, preferences


async def _images(request: Request) -> Preferences:
    return _read(request, parts_of(request).settings.wait_seconds)


async def _evaluation(request: Request) -> Preferences:
    return _read(request, 0.0)


def _read(request: Request, default: float) -> Preferences:
    longest = parts_of(request).settings.max_wait_seconds
    header = ", ".join(request.headers.getlist("prefer"))
    return preferences(header, default=min(default, longest), longest=longest)


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

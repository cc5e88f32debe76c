"""How long a client wants to wait for what a worker makes: the header `Prefer`."""

from typing import Any

from fastapi import Request

from service.api.dependencies import parts_of
from service.api.negotiation import Preferences, preferences


def wish_of(request: Request, default: float) -> Preferences:
    """What the client wants; one that does not say waits for `default` seconds."""
    longest = parts_of(request).settings.max_wait_seconds
    header = ", ".join(request.headers.getlist("prefer"))
    return preferences(header, default=min(default, longest), longest=longest)


PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: answer 202 after N seconds; `respond-async`: at once. RFC 7240.",
    "schema": {"type": "string"},
    "example": "wait=60",
}

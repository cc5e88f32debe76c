"""The methods of a path: HEAD wherever there is a GET, and all of them for the header `Allow`."""

from fastapi import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS_ONLY = "atelier.headers_only"
"""Key of the ASGI scope: the reply's body is not sent, and need not be read from anywhere."""


class HeadLikeGet:
    """ASGI middleware: a HEAD is answered as a GET is, without the body (RFC 9110, section 9.3.2).

    FastAPI knows a HEAD only as an operation of its own, which would be a second one in the OpenAPI document.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bare(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET", HEADERS_ONLY: True}, receive, bare)


def allowed_methods(request: Request) -> list[str]:
    """Every method that the request's path takes, whichever routes they are on."""
    allowed = [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return sorted([*allowed, "HEAD"] if "GET" in allowed else allowed)

"""The header Idempotency-Key: a request that a client repeats, not knowing whether it came through."""

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from service.api.dependencies import key_of
from service.records.idempotency import Once

REUSED = "The Idempotency-Key was another request's."


@dataclass(frozen=True)
class Idempotency:
    """The key of a request, if it has one, and where it was sent."""

    caller: str
    key: str | None
    place: str

    def of(self, body: bytes) -> Once | None:
        """With what the request says; None without a key."""
        if self.key is None:
            return None
        said = hashlib.sha256(self.place.encode() + b"\n" + body).hexdigest()
        return Once(self.caller, self.key, said)


async def _idempotency(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Any text of the client's, new for each new request. The same request with the same "
            "key within 24 hours makes nothing new, and is answered with what the first one made.",
            min_length=1,
            max_length=255,
            examples=["1f0c3c9e-7d1b-4c8e-9d55-3a2f6f6a8f0e"],
        ),
    ] = None,
) -> Idempotency:
    return Idempotency(key_of(request).id, idempotency_key, f"{request.method} {request.url.path}")


IdempotencyHeader = Annotated[Idempotency, Depends(_idempotency)]

"""The errors a caller can act on: each says what was wrong, what was expected, and what to do.

AtelierError            500
├── Unauthorized        401   no key, or not a valid one
├── NotFound            404   no such object, or none that the caller may see
├── Conflict            409   the object's state does not allow it
├── TooLarge            413   more bytes than the service takes
├── Invalid             422   the request's content is wrong
└── Unavailable         503   a part the service needs (database, Redis, artifacts) does not answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class AtelierError(Exception):
    """An error with a stable `code` for programs, a `message` and a `hint` for people, and an HTTP status.

    `param` names the one input at fault; `errors` lists several, each `{"path", "message"}`.
    """

    default_status: ClassVar[int] = 500

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        hint: str | None = None,
        param: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = self.default_status if status is None else status
        self.hint = hint
        self.param = param
        self.errors = tuple(dict(error) for error in errors)

    def __str__(self) -> str:
        if self.hint is None:
            return self.message
        end = "" if self.message.endswith((".", "!", "?")) else "."
        return f"{self.message}{end} {self.hint}"


class Unauthorized(AtelierError):
    """No key came with the request, or one that is unknown, expired or revoked."""

    default_status = 401


class NotFound(AtelierError):
    """No such object, or none that the caller may see."""

    default_status = 404


class Conflict(AtelierError):
    """The object's state does not allow what was asked."""

    default_status = 409


class TooLarge(AtelierError):
    """The request holds more bytes than the service takes."""

    default_status = 413


class Invalid(AtelierError):
    """The request was understood, and its content is wrong."""

    default_status = 422


class Unavailable(AtelierError):
    """A part the service needs (database, Redis, artifacts) does not answer; trying again later may work."""

    default_status = 503

"""API keys: 256 random bits behind a prefix, stored as SHA-256, compared in constant time, shown once."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, or_, select, text
from sqlalchemy.orm import Session

from service.errors import Invalid
from service.records.columns import Now, instant
from service.records.tables import ApiKey

PREFIX = "atl_"
SHORTEST = 32


class KnownKey(NamedTuple):
    """A valid key, without what nobody has to know to serve its holder."""

    id: str
    name: str
    scopes: Sequence[str]
    sha256: str


def _valid(now: Now) -> "Select[Any, Any, Any, Any]":
    return select(ApiKey.id, ApiKey.name, ApiKey.scopes, ApiKey.sha256).where(
        ApiKey.sha256 == bindparam("digest"),
        ApiKey.revoked_at.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > instant(now)),
    )


_VALID = _valid(None)
"""Of every request: to build a statement anew costs as much as to run it."""


def create(
    session: Session,
    name: str,
    *,
    scopes: Sequence[str] = ("admin",),
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which nothing can show again; a `secret` is only given by an operator."""
    secret = PREFIX + secrets.token_urlsafe(32) if secret is None else secret
    if len(secret) < SHORTEST:
        raise Invalid(
            "weak_key",
            f"The API key is {len(secret)} characters long; it must be at least {SHORTEST}.",
            hint="Leave it out, and one is made.",
        )
    key = ApiKey(name=name, sha256=_digest(secret), scopes=list(scopes), expires_at=expires_at)
    session.add(key)
    session.flush()
    return key, secret


def verify(session: Session, secret: str, now: Now = None) -> KnownKey | None:
    """The key of a secret, unless there is none, or it is expired or revoked."""
    digest = _digest(secret)
    statement = _VALID if now is None else _valid(now)
    found = session.connection().execute(statement, {"digest": digest}).one_or_none()
    if found is None or not hmac.compare_digest(found.sha256, digest):
        return None
    return KnownKey(found.id, found.name, found.scopes, found.sha256)


def ensure_admin(session: Session, secret: str) -> bool:
    """Makes the admin key with this secret, which an operator gives; False if there is one already."""
    if session.get_bind().dialect.name == "postgresql":
        # Of several processes that start at once, one makes the key. SQLite has one writer at a time anyway.
        session.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))
    if session.scalar(select(ApiKey.id).where(ApiKey.sha256 == _digest(secret))) is not None:
        return False
    create(session, "admin", secret=secret)
    return True


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

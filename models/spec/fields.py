"""What every part of a spec shares: the strict, frozen model, safe text, and field errors with JSON paths."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MAX_SEED = 2**53 - 1
"""The largest seed: every JSON client, JavaScript's included, can write it exactly."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Images = Annotated[int, Field(ge=1, le=10**10)]
MAX_STEPS = 10**8
MOST_DESCRIBED = 1000
"""Of more wrong fields in one body only the number is told: each costs microseconds that others wait for."""
UNKNOWN_FIELD = "is no field of a job spec here; docs/spec.md lists the fields"
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]


class Model(BaseModel):
    """A frozen part of a spec; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a spec: where (`optimizer.learning_rate`), and what was expected."""

    path: str
    message: str


class SpecError(ValueError):
    """A spec that cannot be run; `errors` names every bad field."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{error.path or 'spec'}: {error.message}" for error in errors))


def details(error: ValidationError) -> list[Mapping[str, Any]]:
    """What pydantic says of each wrong field; of more than `MOST_DESCRIBED` their number alone."""
    if (count := error.error_count()) <= MOST_DESCRIBED:
        return [*error.errors(include_url=False)]
    said = f"has {count:,} wrong or unknown fields; the documentation lists the right ones"
    return [{"type": "too_many", "loc": ("",), "msg": said}]


def field_error(detail: Mapping[str, Any], *, skip: int = 0, words: Mapping[str, str]) -> FieldError:
    """One of pydantic's error details as a JSON path and a sentence.

    `skip` leaves out the first parts of the path; `words` are sentences for types of errors.
    """
    *parents, last = detail["loc"][skip:] or ("",)
    # A mark of pydantic's: it is the name in the object that is wrong, and not its value.
    path = parents if last == "[key]" else [*parents, last]
    return FieldError(".".join(map(str, path)), words.get(detail["type"]) or _sentence(detail))


def _sentence(detail: Mapping[str, Any]) -> str:
    # Text is checked by a function first, after which pydantic counts its characters as "items".
    if detail["type"] in {"too_long", "too_short"} and isinstance(detail["input"], str):
        limits = detail["ctx"]
        bound = f"most {limits['max_length']}" if "max_length" in limits else f"least {limits['min_length']}"
        return f"must have at {bound} characters; it has {len(detail['input'])}"
    return str(detail["msg"]).removeprefix("Value error, ")


def _printable(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text):
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""Text that any database and any terminal can hold."""

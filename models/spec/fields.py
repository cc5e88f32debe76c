"""What every part of a spec shares: the strict, frozen model, safe text, and field errors with JSON paths."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_SEED = 2**53 - 1
"""The largest seed: every JSON client, JavaScript's included, can write it exactly."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Images = Annotated[int, Field(ge=1, le=10**10)]
Steps = Annotated[int, Field(ge=1, le=10**8)]


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


def _printable(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text):
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""Text that any database and any terminal can hold."""

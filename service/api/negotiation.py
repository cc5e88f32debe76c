"""What a client prefers: `Prefer` (RFC 7240) and `Accept` (RFC 9110)."""

from collections.abc import Sequence
from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True)
class Preferences:
    """How long a client wants to wait, and what to echo as `Preference-Applied`."""

    wait_seconds: float
    applied: str | None


def preferences(header: str, *, default: float, longest: float) -> Preferences:
    """`wait=N` waits at most N seconds and `respond-async` not at all; what cannot be read is ignored."""
    given: dict[str, str] = {}
    for preference in header.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        # The first one of a name holds (RFC 7240, section 2).
        given.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait, applied = given.get("wait", ""), []
    if "respond-async" in given:
        default = 0.0
        applied.append("respond-async")
    if wait.isascii() and wait.isdigit():
        default = min(float(wait[:10]), longest)  # ten digits are more than anybody may wait
        applied.append(f"wait={default:g}")
    return Preferences(default, ", ".join(applied) or None)


def best_accepted(header: str, offered: Sequence[str]) -> str | None:
    """The offered type that an `Accept` header likes best, the earlier of equals; None if it accepts none."""
    ranges = [_media_range(part) for part in header.split(",") if part.strip()]
    if not ranges:
        return offered[0]
    liked = {media_type: _quality(media_type, ranges) for media_type in offered}
    best = max(offered, key=lambda media_type: liked[media_type])
    return best if liked[best] > 0 else None


def _media_range(text: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return media_type, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return media_type, 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that holds the type."""
    for pattern in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for accepted, quality in ranges:
            if accepted == pattern:
                return quality
    return 0.0

"""Opens the filesystem of an artifact store; S3's is told how long to try, and to cache nothing."""

from typing import Any

import fsspec

from service.errors import Invalid

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0
TRIES = 4
PART_BYTES = 8 << 20
MOST_PARTS = 10_000
STALLED_SECONDS = 120.0
SLOWEST_BYTES_PER_SECOND = 256 << 10


def open_filesystem(url: str) -> tuple[Any, str]:
    """The filesystem and the path in it that the address names."""
    is_s3 = url.startswith(("s3://", "s3a://"))
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **(_s3_options() if is_s3 else {}))
    except ImportError as error:
        raise _bad_address(f"needs a library that is not installed ({error})") from error
    except ValueError as error:
        raise _bad_address(f"cannot be used ({error})") from error
    if is_s3:
        if not root.strip("/"):
            raise _bad_address("names no bucket")
        # The client repeats requests by itself; both together would multiply the time that an outage takes.
        filesystem.retries = 1
    return filesystem, str(root).rstrip("/")


def upload_options(filesystem: Any, size: int) -> dict[str, float]:
    """Arguments of an upload of so many bytes."""
    if not isinstance(filesystem.protocol, tuple) or "s3" not in filesystem.protocol:
        return {}
    # No other limit ends an upload whose receiver reads no further.
    seconds = STALLED_SECONDS + size / SLOWEST_BYTES_PER_SECOND
    return {"timeout": seconds, "chunksize": max(PART_BYTES, size // MOST_PARTS + 1)}


def _s3_options() -> dict[str, Any]:
    return {
        # What other processes store and remove is seen at once.
        "use_listings_cache": False,
        # The endpoint and the keys come from the environment, which fsspec's instances are not told apart by.
        "skip_instance_cache": True,
        # One part after the other: a process holds two of them in memory at most.
        "max_concurrency": 1,
        "default_block_size": PART_BYTES,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": SILENCE_SECONDS,
            # Failed connections, 500, 502, 503, 504 and throttling are tried again after up to 1, 2 and 4 s.
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
        },
    }


def _bad_address(reason: str) -> Invalid:
    return Invalid(
        "bad_settings",
        f"ATELIER_ARTIFACTS_URL {reason}.",
        hint="A folder, or s3://bucket/prefix, which needs pip install 'atelier[s3]'.",
        param="ATELIER_ARTIFACTS_URL",
    )

"""How much an uploaded archive may contain, counted while it is read and never believed beforehand."""

from dataclasses import dataclass

from models.data.errors import DatasetError

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True)
class Limits:
    """Bounds on what one archive may unpack to; the defaults hold any honest upload of two gigabytes."""

    entries: int = 500_000
    entry_bytes: int = 128 * MIB
    total_bytes: int = 32 * GIB
    ratio: int = 100  # unpacked bytes for one packed byte ...
    ratio_from: int = 256 * MIB  # ... looked at once this much has been unpacked
    header_bytes: int = 4 * MIB  # a tar member's headers, or what a reader may take in beyond a member
    directory_bytes: int = 256 * MIB  # a zip's central directory
    classes: int = 10_000
    packed_bytes: int = 16 * GIB
    reported: int = 10_000  # dropped files named one by one


class Meter:
    """A running count of entries and unpacked bytes that ends the reading when a limit is passed."""

    def __init__(self, limits: Limits, archive_bytes: int) -> None:
        self.limits = limits
        self.archive_bytes = max(archive_bytes, 1)
        self.entries = 0
        self.unpacked = 0

    def count_entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise too_many_entries(self.limits)

    def count_bytes(self, number: int) -> None:
        self.unpacked += number
        if self.unpacked > self.limits.total_bytes:
            raise DatasetError(
                "archive_too_large",
                f"The archive unpacks to more than {self.limits.total_bytes / GIB:.0f} GiB.",
                "Upload fewer or smaller images; they are reduced to at most 256 pixels a side anyway.",
            )
        ratio = self.unpacked / self.archive_bytes
        if self.unpacked > self.limits.ratio_from and ratio > self.limits.ratio:
            raise DatasetError(
                "archive_too_large",
                f"The archive unpacks to more than {self.limits.ratio} times its own size.",
                "PNG, JPEG and WebP files hardly compress further: archive the images alone.",
            )


def too_many_entries(limits: Limits) -> DatasetError:
    return DatasetError(
        "archive_too_large",
        f"The archive holds more than {limits.entries:,} entries.",
        f"Split it into data sets of at most {limits.entries:,} files.",
    )

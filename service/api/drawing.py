"""Has a job's curves drawn by another process: numpy and matplotlib would keep 90 MB of this one for ever."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

SECONDS = 60


def draw(series: Mapping[str, Any], **options: Any) -> bytes:
    """The PNG of `service.api.plots.plot`, whose arguments these are; it is a second of one core."""
    question = json.dumps({"series": series, **options}).encode()
    drawn = subprocess.run(
        [sys.executable, "-P", "-m", "service.api.drawing"],
        input=question,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
    )
    return drawn.stdout


def main() -> None:
    from service.api.plots import plot

    sys.stdout.buffer.write(plot(**json.load(sys.stdin)))


if __name__ == "__main__":
    main()

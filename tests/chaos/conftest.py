"""What the tests of faults share."""

from collections.abc import Callable

import pytest


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[float], None]:
    """Says on the terminal how many seconds a recovery took."""

    def say(seconds: float) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: recovered in {seconds:.1f} s")  # noqa: T201

    return say

"""A short campaign against each database. `make chaos KILLS=200 SEED=1` runs a long one on PostgreSQL."""

import os
import random

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Ledger

KILLS, SEED = int(os.environ.get("KILLS", "6")), int(os.environ.get("SEED", "7"))


@pytest.mark.slow
@pytest.mark.timeout(300 + 120 * KILLS)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_or_done_twice_whatever_is_killed(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks when an accepted job disappears, finishes twice, or comes to other weights than undisturbed."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)  # noqa: T201 - the figures are what a campaign is for

    with Deployment(database) as deployment:
        campaign = Campaign(deployment, Ledger(deployment.client), random.Random(SEED), tell)
        broken = campaign.run(KILLS)
        tell(f"\n{database}, seed {SEED}:\n{campaign.report()}")
    assert broken == []

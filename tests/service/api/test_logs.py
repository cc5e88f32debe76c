"""A job's log over HTTP: the last lines first, in pages, of one attempt or of all."""

from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from service.records import logs
from service.records.database import Database
from tests.service.api.conftest import Trained


@pytest.fixture
def written(database: Database, trained: Trained) -> str:
    """The job of 250 lines of its first attempt, and 2 of its second."""
    now = datetime.now(UTC)
    with database.transaction() as session:
        logs.add(session, trained.job, 1, [logs.Line(now, f"line {number}") for number in range(250)])
        logs.add(session, trained.job, 2, [logs.Line(now, text) for text in ("again", "<b>end</b> \x00")])
    return f"/v1/jobs/{trained.job}/logs"


def test_the_last_lines_come_first_and_pages_hold_every_line_once(client: TestClient, written: str) -> None:
    last = client.get(f"{written}?limit=2").json()
    assert [line["text"] for line in last["data"]] == ["<b>end</b> \ufffd", "again"]
    assert {line["attempt"] for line in last["data"]} == {2}
    texts, after = [], ""
    while True:
        page = client.get(f"{written}?limit=100{after}").json()
        texts += [line["text"] for line in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert texts[2:] == [f"line {number}" for number in reversed(range(250))]


def test_an_attempt_has_lines_of_its_own(client: TestClient, written: str) -> None:
    second = client.get(f"{written}?attempt=2").json()
    assert len(second["data"]) == 2
    assert client.get(f"{written}?attempt=3").json()["data"] == []
    assert client.get(f"{written}?attempt=0").status_code == 422


@pytest.mark.parametrize("attempt", [2**31, 2**63, 10**30])
def test_an_attempt_that_no_database_could_hold_is_refused(
    client: TestClient, written: str, attempt: int
) -> None:
    """Breaks when a number too large for its column is the service's fault: a 500."""
    refused = client.get(f"{written}?attempt={attempt}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "attempt")
    largest = client.get(f"{written}?attempt={2**31 - 1}")
    assert (largest.status_code, largest.json()["data"]) == (200, [])


def test_what_is_not_there_is_not_found(client: TestClient, written: str) -> None:
    assert client.get("/v1/jobs/job_x/logs").status_code == 404
    other = client.get(f"{written}?after=log_01jc0000000000000000000004")
    assert (other.status_code, other.json()["error"]["code"]) == (404, "cursor_not_found")

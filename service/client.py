"""A small synchronous client of the HTTP API, for the `atelier` command and the demo."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from service.errors import AtelierError

Reply = dict[str, Any]

FINAL = frozenset({"succeeded", "failed", "cancelled", "paused"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Refused(AtelierError):
    """The service answered with a problem, or did not answer."""


class Client:
    """Speaks JSON with one service; a problem that it answers is raised as `Refused`."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            # A proxy named in the environment is for the network, not for this machine.
            local = urlsplit(url).hostname in LOOPBACK
            self._http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=not local)
            readable = self._http.base_url.scheme in ("http", "https") and self._http.base_url.host
        except UnicodeEncodeError:
            raise Refused(
                "bad_key", "the API key holds characters that no key has", hint="ATELIER_API_KEY is the key."
            ) from None
        except (httpx.InvalidURL, ValueError):
            readable = ""
        if not readable:
            hint = "ATELIER_URL is an address such as http://127.0.0.1:8000 or https://atelier.example.com."
            raise Refused("bad_url", f"{url!r} is no address of a service", hint=hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Reply:
        return _object(self._request("GET", path, params=params))

    def post(
        self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, **params: Any
    ) -> Reply:
        return _object(self._request("POST", path, json=body, headers=headers, params=params))

    def read(self, url: str) -> bytes:
        """A file of this service, by the path or the address that a reply gave."""
        parts = urlsplit(url)  # the key goes to this service alone, whatever address a reply gave
        return self._request("GET", f"{parts.path}?{parts.query}").content

    def upload_dataset(self, name: str, file: Path) -> Reply:
        with file.open("rb") as stream:
            files = {"file": (file.name, stream, "application/octet-stream")}
            return _object(
                self._request("POST", "/v1/datasets", data={"name": name}, files=files, timeout=None)
            )

    def items(self, path: str, limit: int, **params: Any) -> Iterator[Reply]:
        """The newest `limit` objects of a list, over as many pages as that takes."""
        after = None
        while limit > 0:
            page = self.get(path, limit=min(limit, 100), after=after, **params)
            yield from page["data"]
            limit -= len(page["data"])
            if not page["has_more"]:
                return
            after = page["last_id"]

    def follow(
        self, path: str, *, sleep: Callable[[float], None] = time.sleep, every: float = 1.0
    ) -> Iterator[Reply]:
        """The object at `path` again and again, up to and including its final status."""
        while True:
            reply = self.get(path)
            yield reply
            if reply["status"] in FINAL:
                return
            sleep(every)

    def make_images(
        self, checkpoint: str, request: Reply, *, sleep: Callable[[float], None] = time.sleep
    ) -> Reply:
        """Images of a checkpoint: the finished batch; `Refused` when the worker could not make them."""
        asked = self.post(
            f"/v1/checkpoints/{checkpoint}/images", request, headers={"Prefer": "respond-async"}
        )
        *_, batch = self.follow(f"/v1/images/{asked['id']}", sleep=sleep, every=0.3)
        if batch["status"] != "succeeded":
            error = batch.get("error") or {}
            raise Refused(
                error.get("code", "images_failed"), error.get("message", "no images"), hint=error.get("hint")
            )
        return batch

    def losses(self, job: str) -> dict[str, float]:
        """The newest value of every loss of a job, unless it was not a finite number."""
        series = self.get(f"/v1/jobs/{job}/metrics", max_points=2)["series"]
        return {
            key.removeprefix("loss/"): points["value"][-1]
            for key, points in sorted(series.items())
            if key.startswith("loss/") and points["value"] and points["value"][-1] is not None
        }

    def _request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, **rest: Any
    ) -> httpx.Response:
        known = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            reply = self._http.request(method, path, params=known or None, **rest)
        except httpx.TransportError as error:
            message = f"{self.url} does not answer: {error}"
            hint = "Is the service running (`atelier up`)? ATELIER_URL says where it is."
            raise Refused("unreachable", message, status=503, hint=hint) from error
        if reply.is_error:
            raise refusal(reply)
        return reply


def _object(reply: httpx.Response) -> Reply:
    try:
        return dict(reply.json())
    except (ValueError, TypeError):
        message = f"{reply.url} answered {reply.status_code} without the JSON object that the service sends"
        hint = "ATELIER_URL is the address of the service itself, such as http://127.0.0.1:8000."
        raise Refused("not_the_service", message, hint=hint) from None


def refusal(reply: httpx.Response) -> Refused:
    """The problem that the service answered, with every bad field on a line of its own."""
    # A proxy between client and service has errors of its own, in shapes of its own.
    is_problem = reply.headers.get("content-type", "").startswith("application/problem+json")
    problem = reply.json() if is_problem else {}
    fields = [f"  {field['path'] or 'body'}: {field['message']}" for field in problem.get("errors") or []]
    detail = problem.get("title" if fields else "detail") or reply.text[:500] or reply.reason_phrase
    code = (problem.get("error") or {}).get("code") or "refused"
    message = "\n".join([f"{reply.status_code}: {detail}", *fields])
    return Refused(code, message, status=reply.status_code, hint=problem.get("hint"))


def locate(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The service's URL and key: ATELIER_URL and ATELIER_API_KEY, else the local stack's in ATELIER_DATA."""
    folder = Path(environ.get("ATELIER_DATA") or "atelier-data")
    local_url = _line(folder / "url")
    url = environ.get("ATELIER_URL") or local_url
    if not url:
        message = f"no service: ATELIER_URL is not set and there is no running local stack in {folder}"
        hint = "Start one with `atelier up`, or name one: ATELIER_URL=https://… ATELIER_API_KEY=…"
        raise Refused("no_service", message, hint=hint)
    key = environ.get("ATELIER_API_KEY")
    if not key and url.rstrip("/") == local_url:  # the local key goes nowhere but to the local stack
        key = _line(folder / "api-key")
    return url, key


def _line(file: Path) -> str | None:
    return file.read_text().strip() if file.is_file() else None

"""An HTTP proxy in front of one server, which answers 503, falls silent, or hangs up, as a test says."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")
CUT_SHORT = 100_000
ALWAYS = 1_000_000


@dataclass
class Fault:
    """What becomes of requests, the first `times` of those whose line has `matching` in it."""

    kind: str
    """`503`; `silence`: nothing is read, nor answered; `cut`: the reply ends after CUT_SHORT bytes."""
    times: int = ALWAYS
    matching: str = ""


@dataclass
class FaultyProxy:
    """Passes requests on, but for those of `fault`; `seen` has a line of each: method, path, range."""

    target: str
    address: str = ""
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def taken(self, line: str) -> str | None:
        """The kind of the fault that this request meets."""
        with self._lock:
            self.seen.append(line)
            fault = self.fault
            if fault is None or fault.times == 0 or fault.matching not in line:
                return None
            fault.times -= 1
            return fault.kind


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def handle_any(self) -> None:
        kind = self.proxy.taken(f"{self.command} {self.path} {self.headers.get('range', '')}".strip())
        if kind == "silence":
            self.proxy.ending.wait()
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if kind == "503":
            self._reply(503, [], b"", 0)
            return
        connection = http.client.HTTPConnection(urlsplit(self.proxy.target).netloc, timeout=180)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        length = int(answer.headers.get("content-length", len(content)))
        if kind == "cut":
            content, self.close_connection = content[:CUT_SHORT], True
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        self._reply(answer.status, headers, content, length)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815  the names that http.server calls

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: `seen` has it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Nothing: clients that hang up are what these tests are about."""


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(target)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()

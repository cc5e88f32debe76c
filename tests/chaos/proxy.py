"""A TCP proxy between the service and a server: it can cut every connection, or swallow what it is given."""

import contextlib
import selectors
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens on a port of its own and passes bytes on to `target`: a TCP address, or a unix socket's path.

    `blackhole()` keeps connections open and answers nothing; `cut()` ends them and refuses new ones;
    `lose_answers()` ends a connection behind every so manieth request that has certain bytes in it.
    """

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self._target = target
        self._mode = "pass"
        self._marker, self._every, self._met = b"", 0, 0
        self.lost = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def restore(self) -> None:
        """Pass bytes on again. What was swallowed stays lost: those connections are ended."""
        self.cut()
        self._mode = "pass"

    def blackhole(self) -> None:
        self._mode = "blackhole"

    def lose_answers(self, marker: bytes, every: int) -> None:
        """The server is still given such a request; `lost` counts them."""
        self._marker, self._every = marker, every

    def cut(self) -> None:
        self._mode = "cut"
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            if self._mode == "cut":
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        both = {client, server}
        with self._lock:
            self._open |= both
        try:
            self._pump(client, server)
        except OSError:  # one of the ends is gone: that is passed on by ending the other one
            client.close()
        finally:
            with self._lock:
                self._open -= both
            for each in both:
                each.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    chunk = key.fileobj.recv(65536)  # type: ignore[union-attr]  # a socket was registered
                    if not chunk:
                        return
                    if self._mode == "pass":
                        key.data.sendall(chunk)
                    if key.fileobj is client and self._loses(chunk):
                        return

    def _loses(self, request: bytes) -> bool:
        if not self._every or self._marker not in request:
            return False
        with self._lock:
            self._met += 1
            lost = self._met % self._every == 0
            self.lost += lost
        return lost

    def _connect(self) -> socket.socket:
        if isinstance(self._target, Path):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._target))
            return server
        return socket.create_connection(self._target)

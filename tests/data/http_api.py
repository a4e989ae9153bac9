"""A real HTTP server on loopback for tests: files, and a JSON API that wants a bearer token."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping

TOKEN = "a-token-nobody-may-print"


class Api(http.server.ThreadingHTTPServer):
    """Serves `documents`, keeps the Authorization headers that came with each path."""

    daemon_threads = True

    def __init__(self, documents: Mapping[str, tuple[str, bytes]]) -> None:
        """Documents: path to content type and body."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents = dict(documents)
        self.authorizations: dict[str, str | None] = {}

    def address(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    """/api/... wants the token; /moved?TARGET redirects there; /slow never answers in time."""

    server: Api

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        self.server.authorizations[path] = self.headers.get("Authorization")
        if path == "/slow":
            time.sleep(2)
        elif path == "/moved":
            self._answer(302, "text/plain", b"", Location=target)
        elif path == "/broken":
            self._answer(503, "text/plain", b"")
        elif path.startswith("/api/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, "application/json", json.dumps({"error": "no token"}).encode())
        elif path in self.server.documents:
            self._answer(200, *self.server.documents[path])
        else:
            self._answer(404, "text/html", b"<html>not here</html>")

    def _answer(self, status: int, content_type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stays silent."""


@contextlib.contextmanager
def running_api(documents: Mapping[str, tuple[str, bytes]]) -> Iterator[Api]:
    """Starts the server, and stops it at the end."""
    api = Api(documents)
    thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        thread.join()
        api.server_close()

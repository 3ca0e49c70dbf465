"""A reverse proxy in front of a web API that misbehaves on order, as real ones do now and then."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What happens to one request of that method: an answer of the proxy's own, a cut or a lost answer.

    ``path`` is how the request's path ends; any, where it is empty.
    """

    method: str
    status: int = 0
    body: bytes = b"<html>Bad Gateway</html>"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    lose: bool = False
    path: str = ""


@dataclass
class Proxy:
    """Faults are used up in order; ``seen`` holds method, path and headers of each request."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def take(self, method: str, path: str) -> Fault:
        for fault in self.faults:
            if fault.method == method and path.endswith(fault.path):
                self.faults.remove(fault)
                return fault
        return Fault(method)

    def requests(self, method: str) -> list[dict[str, str]]:
        """The headers of all requests of that method."""
        return [headers for seen, _, headers in self.seen if seen == method]


@contextlib.contextmanager
def proxy_before(upstream: str) -> Iterator[Proxy]:
    """A proxy on a free port of this host."""
    proxy = Proxy()
    host = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            proxy.seen.append((self.command, self.path, dict(self.headers)))
            fault = proxy.take(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault.status:
                self.answer(
                    fault.status, {**fault.headers, "Content-Length": str(len(fault.body))}, fault.body
                )
                return
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request(self.command, self.path, body or None, dict(self.headers))
            reply = connection.getresponse()
            content = reply.read()
            connection.close()
            if fault.cut is not None and len(content) <= fault.cut:
                proxy.faults.insert(0, fault)  # no download yet
                fault = Fault(self.command)
            if fault.lose:
                self.close_connection = True
                return
            self.answer(reply.status, dict(reply.getheaders()), content[: fault.cut])
            if fault.cut is not None:
                self.close_connection = True

        do_GET = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was killed

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()

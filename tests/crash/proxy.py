"""A proxy on 127.0.0.1 in front of a real server that does to requests what its script says."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socketserver
import threading
import time
from dataclasses import dataclass

DRIP_S = 0.02  # between two bytes of a slow answer
UPSTREAM_S = 60


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    "close" before it is forwarded, "lost answer" after; "stall" and "stall after forwarding" never
    answer while the fault lasts; "status" answers by itself; "garbage" and "half" forward and spoil
    the answer; "drip" forwards and answers a few bytes at a time; "slow" answers `delay_s` later.

    `body`, a regular expression, restricts it to requests that contain such a text, and `path` to
    such paths; others pass.
    """

    kind: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    path: str = ""
    body: str = ""
    delay_s: float = 0.0

    def applies(self, path: str, body: bytes) -> bool:
        return re.search(self.path, path) is not None and re.search(self.body.encode(), body) is not None


def status(code: int, *, path: str = "", body: str = "", **headers: str) -> Fault:
    """An answer with this status; `retry_after="3"` becomes the header Retry-After."""
    named = tuple((name.replace("_", "-").title(), value) for name, value in headers.items())
    return Fault("status", code, named, path, body)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    block_on_close = False

    def handle_error(self, request, client_address):
        """Clients and servers that go away are what this is for."""


class Proxy:
    """Forwards to `upstream`, a port; listens on `port` until `refuse`, and again from `listen` on.

    `fault` lasts until it is changed; `script` is used up first, one item for each request that it
    applies to, where None passes. `requests` lists (path, kind of fault) so far.
    """

    def __init__(self, upstream: int, port: int) -> None:
        self.upstream, self.port = upstream, port
        self.script: list[Fault | None] = []
        self.requests: list[tuple[str, str]] = []
        self._fault: Fault | None = None
        self._lifted = threading.Event()
        self._lock = threading.Lock()
        self._server: _Server | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        """Change what happens; connections that stall are closed."""
        self._lifted.set()
        self._lifted = threading.Event()
        self._fault = fault

    def count(self, path: str = "", kind: str = "") -> int:
        """How many requests there were to such a path, with such a fault."""
        return sum(path in there and (not kind or kind == what) for there, what in list(self.requests))

    def listen(self) -> None:
        if self._server is None:
            handler = type("Handler", (_Handler,), {"proxy": self})
            self._server = _Server(("127.0.0.1", self.port), handler)
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def choose(self, path: str, body: bytes) -> tuple[Fault | None, threading.Event]:
        with self._lock:
            fault = self._fault
            if self.script and (self.script[0] is None or self.script[0].applies(path, body)):
                fault = self.script.pop(0)
            elif fault is not None and not fault.applies(path, body):
                fault = None
            self.requests.append((path, fault.kind if fault else "pass"))
            return fault, self._lifted


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def answer(self) -> None:
        self.close_connection = True  # a connection a request: a proxy that refuses refuses the next one
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault, lifted = self.proxy.choose(self.path, body)
        kind = fault.kind if fault else "pass"
        if kind == "close":
            return
        if kind == "stall":
            lifted.wait()
            return
        if fault is not None and kind == "status":
            self.reply(fault.status, dict(fault.headers), b'{"error_code": "SCRIPTED", "message": "as told"}')
            return
        if fault is not None and kind == "slow":
            lifted.wait(fault.delay_s)
        code, headers, answer = self.forward(body)
        if kind == "stall after forwarding":
            lifted.wait()
        if kind in ("stall after forwarding", "lost answer"):
            return
        if kind == "garbage":
            answer = b"\x00\xff<html>" + answer[::-1]
        self.reply(code, headers, answer, kind)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names that it looks for

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=UPSTREAM_S)
        with contextlib.closing(upstream):
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            content = answer.read()
            return answer.status, {"Content-Type": answer.headers.get("Content-Type", "text/plain")}, content

    def reply(self, code: int, headers: dict[str, str], body: bytes, kind: str = "pass") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if kind == "half":
            body = body[: len(body) // 2]
        if kind == "drip":
            for byte in body[:200]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(DRIP_S)
            body = body[200:]
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Keep the test's output quiet."""


@contextlib.contextmanager
def proxied(upstream: int, port: int):
    """A proxy that listens, in front of a server on the port `upstream`."""
    proxy = Proxy(upstream, port)
    proxy.listen()
    try:
        yield proxy
    finally:
        proxy.refuse()
        proxy.fault = None  # lets go of the connections that stall

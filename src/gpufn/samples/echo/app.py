"""The echo sample: answers with what it was sent. Standard library only, so it starts at once.

``POST /echo {"message": "hi", "delay": 0, "repeats": 1, "stream": false}`` answers ``{"message": "hi"}``; ``delay`` is
in seconds, ``repeats`` says how often the message is repeated. With ``stream`` or ``Accept: text/event-stream`` each
repeat is a server-sent event of its own, ``delay`` seconds apart. Every other path and method is answered with a
description of the request. ``GET /health`` answers 200. Listens on PORT, and on HEALTH_PORT where that differs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY = 64 * 1024 * 1024
MAX_REPEATS = 100_000
MAX_DELAY = 3600.0


class BadRequest(Exception):
    """The request cannot be answered; the text says why."""


class Handler(BaseHTTPRequestHandler):
    """One connection; keep-alive."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: flushed after each request
    disable_nagle_algorithm = True
    timeout = 300

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the gateway keeps the access log."""

    def handle_one_request(self) -> None:
        """As in the base class, with every method sent to ``answer``."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if self.parse_request():
            self.answer()
            self.wfile.flush()

    def answer(self) -> None:
        """Answer one request of any method."""
        try:
            body = self.read_body()
            path = self.path.partition("?")[0]
            if path == "/health" and self.command in ("GET", "HEAD"):
                self.send_json(200, {"status": "ok"})
            elif path == "/echo" and self.command == "POST":
                self.echo(body)
            else:
                self.send_json(200, self.describe(body))
        except BadRequest as error:
            self.close_connection = True
            self.send_json(400, {"error": str(error)})

    def read_body(self) -> bytes:
        """The request's body, of either framing."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.read_chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise BadRequest(f"Content-Length {length!r} is not a number up to {MAX_BODY}")
        return self.rfile.read(int(length))

    def read_chunks(self) -> bytes:
        """A chunked body; trailers are dropped."""
        body = b""
        while True:
            line = self.rfile.readline(1024).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                raise BadRequest(f"chunk size {line!r} is not hexadecimal") from None
            if size < 0 or len(body) + size > MAX_BODY:
                raise BadRequest(f"body larger than {MAX_BODY} bytes")
            if size == 0:
                while self.rfile.readline(65536).strip():
                    pass
                return body
            body += self.rfile.read(size)
            self.rfile.readline(8)

    def echo(self, body: bytes) -> None:
        """``POST /echo``."""
        message, delay, repeats, stream = parse_echo(body)
        if stream or "text/event-stream" in self.headers.get("Accept", ""):
            self.send_events(message, delay, repeats)
            return
        time.sleep(delay)
        answer = " ".join([message] * repeats) if isinstance(message, str) and repeats > 1 else message
        self.send_json(200, {"message": answer})

    def send_events(self, message: Any, delay: float, repeats: int) -> None:
        """One event per repeat, each sent at once."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = b"data: " + json.dumps({"message": message}).encode() + b"\n\n"
        for _ in range(repeats):
            time.sleep(delay)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def describe(self, body: bytes) -> dict[str, Any]:
        """The request, as JSON."""
        return {
            "method": self.command,
            "path": self.path,
            "headers": dict(self.headers.items()),
            "body": body.decode("utf-8", "replace"),
        }

    def send_json(self, status: int, value: Any) -> None:
        """A complete answer."""
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def parse_echo(body: bytes) -> tuple[Any, float, int, bool]:
    """Message, delay, repeats, stream; raises BadRequest."""
    try:
        given = json.loads(body or b"{}")
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise BadRequest('the body must be an object: {"message": "hi"}')
    delay, repeats = given.get("delay", 0), given.get("repeats", 1)
    if not isinstance(delay, (int, float)) or not 0 <= delay <= MAX_DELAY:
        raise BadRequest(f"delay must be seconds from 0 to {MAX_DELAY:.0f}")
    if not isinstance(repeats, int) or not 0 <= repeats <= MAX_REPEATS:
        raise BadRequest(f"repeats must be a whole number from 0 to {MAX_REPEATS}")
    return given.get("message", ""), float(delay), repeats, bool(given.get("stream", False))


class Server(ThreadingHTTPServer):
    """A thread per connection, ended with the process."""

    daemon_threads = True
    request_queue_size = 1024

    def server_bind(self) -> None:
        """Without the base class's reverse look-up of the host name, which can take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until SIGTERM."""
    port = int(os.environ.get("PORT", "8000"))
    health_port = int(os.environ.get("HEALTH_PORT", port))
    host = os.environ.get("HOST", "127.0.0.1")
    servers = [Server((host, p), Handler) for p in dict.fromkeys((port, health_port))]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"echo listens on {host}:{port}", flush=True)
    stop.wait()


if __name__ == "__main__":
    main()

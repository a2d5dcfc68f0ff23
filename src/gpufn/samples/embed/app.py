"""The embed sample: ``POST /v1/embeddings {"input": "text"}`` or ``{"input": ["text", …]}``, as OpenAI's API has it.

``encoding_format`` may be ``float`` or ``base64``. ``GET /health`` answers 200 once the model is loaded: the port is
not open before. Listens on PORT, and on HEALTH_PORT where that differs.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from minilm import NAME, Model  # type: ignore[import-not-found]  # beside this file, where the sample runs

MAX_BODY = 8 * 1024 * 1024
MAX_INPUTS = 2048


class BadRequest(Exception):
    """The request cannot be answered; the text says why."""


class Handler(BaseHTTPRequestHandler):
    """One connection; keep-alive."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 300
    model: Model

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the gateway keeps the access log."""

    def do_GET(self) -> None:
        """Health, and the model's name."""
        if self.path == "/health":
            self.send_json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            self.send_json(200, {"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "gpufn"}]})
        else:
            self.send_problem(404, f"there is no {self.path}; POST /v1/embeddings")

    def do_POST(self) -> None:
        """Embeddings."""
        try:
            given = self.read_json()
            if self.path.partition("?")[0] != "/v1/embeddings":
                self.send_problem(404, f"there is no {self.path}; POST /v1/embeddings")
                return
            texts, as_base64 = parse(given)
        except BadRequest as error:
            self.close_connection = True
            self.send_problem(400, str(error))
            return
        rows, tokens = self.model.embed(texts)
        data = [
            {"object": "embedding", "index": n, "embedding": encode(row) if as_base64 else row.tolist()}
            for n, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        self.send_json(200, {"object": "list", "model": NAME, "data": data, "usage": usage})

    def read_json(self) -> Any:
        """The body; with either framing."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = self.read_chunks()
        else:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY:
                raise BadRequest(f"Content-Length {length!r} is not a number up to {MAX_BODY}")
            body = self.rfile.read(int(length))
        try:
            return json.loads(body)
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from error

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

    def send_problem(self, status: int, message: str) -> None:
        """An error as OpenAI's API has it."""
        self.send_json(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def send_json(self, status: int, value: Any) -> None:
        """A complete answer."""
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def parse(given: Any) -> tuple[list[str], bool]:
    """The texts, and whether the answer is to be base64; raises BadRequest."""
    texts = given.get("input") if isinstance(given, dict) else None
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest('"input" must be a string or a list of strings, not empty')
    if len(texts) > MAX_INPUTS:
        raise BadRequest(f'"input" holds {len(texts)} texts; at most {MAX_INPUTS} are computed at once')
    form = given.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise BadRequest('"encoding_format" must be "float" or "base64"')
    return texts, form == "base64"


def encode(row: Any) -> str:
    """The row's little-endian 32-bit floats in base64."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


class Server(ThreadingHTTPServer):
    """A thread per connection, ended with the process."""

    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    """Load the model, then serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # also while loading
    Handler.model = Model()
    port = int(os.environ.get("PORT", "8000"))
    health_port = int(os.environ.get("HEALTH_PORT", port))
    host = os.environ.get("HOST", "127.0.0.1")
    servers = [Server((host, p), Handler) for p in dict.fromkeys((port, health_port))]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"embed listens on {host}:{port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

"""The gRPC health protocol, as a client: one call of ``grpc.health.v1.Health/Check`` for the whole server.

Two messages of a few bytes are all there is of it, so no generated code is needed (invocation-plane page, 10.4).
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

from gpufn.runtime.http2 import fields
from gpufn.runtime.http2.connection import Connection, Limits
from gpufn.runtime.http2.fields import Fields
from gpufn.runtime.http2.frames import Code
from gpufn.runtime.http2.stream import Stream

REQUEST = bytes(5)
"""No compression, length 0: a request without a service name means the server as a whole."""
ANSWER_MAX = 1024
STATUSES = {b"": "UNKNOWN", b"\x08\x00": "UNKNOWN", b"\x08\x01": "SERVING", b"\x08\x02": "NOT_SERVING"}
UNIMPLEMENTED = "12"


async def check(host: str, port: int) -> str | None:
    """None when it answers SERVING, else one plain reason. Raises OSError when there is no connection."""
    probe = _Probe()
    limits = Limits(block_max=64 * 1024)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(probe, limits, server=False), host, port)
    try:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        block = fields.request(b"POST", b"http", authority.encode(), b"/grpc.health.v1.Health/Check")
        block += fields.line(b"content-type", b"application/grpc") + fields.line(b"te", b"trailers")
        connection.open(probe, block, False).send(REQUEST, True)
        return await probe.verdict
    finally:
        connection.close(Code.NO_ERROR, "")


class _Probe:
    """Owner of the connection and sink of its only stream."""

    def __init__(self) -> None:
        self.verdict: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._values: dict[bytes, bytes] = {}
        self._message = b""

    def headers(self, found: Fields, end: bool) -> None:
        self._values |= dict(found.items)
        if end:
            self._say(self._judge())

    def data(self, data: bytes, end: bool) -> None:
        self._message += data
        if len(self._message) > ANSWER_MAX:
            self._say("answered something that is no health status")
        elif end:
            self._say(self._judge())

    def sent(self, size: int) -> None: ...

    def reset(self, code: int, lost: bool) -> None:
        self._say("closed the connection without an answer" if lost else f"reset the health check (HTTP/2 code {code})")

    def accept(self, stream: Stream, found: Fields, end: bool) -> None: ...
    def changed(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None:
        self._say("closed the connection without an answer")

    def _say(self, verdict: str | None) -> None:
        if not self.verdict.done():
            self.verdict.set_result(verdict)

    def _judge(self) -> str | None:
        http, status = self._values.get(b":status", b"").decode(), self._values.get(b"grpc-status", b"").decode()
        if http != "200" or not status:
            return f"answered HTTP {http} to the gRPC health check"
        if status == UNIMPLEMENTED:
            return "serves no grpc.health.v1.Health; add the health service to it"
        if status != "0":
            message = unquote(self._values.get(b"grpc-message", b"").decode("latin-1"))
            return f"the gRPC health check failed with status {status} {message}".rstrip()
        answer = STATUSES.get(self._message[5:], "an unknown status")
        return None if answer == "SERVING" else f"answered {answer}, expected SERVING"

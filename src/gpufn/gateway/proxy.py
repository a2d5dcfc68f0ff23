"""A CONNECT proxy for NVIDIA's host names, so that clients whose hosts are fixed reach this installation instead.

It opens no connection to anywhere: after CONNECT the same connection speaks TLS with this gateway, under the name that
was asked for. Every other host is refused (clients page, section 12).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable

from gpufn.gateway.deadlines import Deadlines, Timed
from gpufn.runtime.clock import loop_now
from gpufn.runtime.supervisor import Supervisor

HOSTS = (
    "*.nvcf.nvidia.com",
    "*.api.nvcf.nvidia.com",
    "*.invocation.api.nvcf.nvidia.com",
    "api.ngc.nvidia.com",
    "authn.nvidia.com",
)
"""The names that are ours here, as certificates write them."""
LOCAL = ("localhost", "127.0.0.1")
HEAD_MAX = 8 * 1024
HEAD_SECONDS = 10.0

_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")


def is_ours(host: str) -> bool:
    """Whether ``host`` is one of ``HOSTS``."""
    label, _, rest = host.lower().partition(".")
    return bool(label) and (f"*.{rest}" in HOSTS or host.lower() in HOSTS)


def answer(head: bytes, own_port: int | None = None) -> bytes:
    """The answer to a complete request head: 200 lets the client go on with TLS. ``own_port``: the TLS port of this
    gateway, which some clients ask for here although it is local.
    """
    found = _CONNECT.match(head)
    if found is None:
        return _refusal(b"405 Method Not Allowed", "this is a CONNECT proxy for NVIDIA's host names; send CONNECT")
    host, port = found[1].decode(), int(found[2])
    is_local = host.lower() in LOCAL and port == own_port
    if not is_local and not (is_ours(host) and port == 443):
        why = f"{host[:253]}:{port} is none of {', '.join(HOSTS)} on port 443; name it in NO_PROXY"
        return _refusal(b"403 Forbidden", why)
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def _refusal(status: bytes, text: str) -> bytes:
    body = text.encode() + b"\n"
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body


class Proxy(asyncio.Protocol):
    """One connection to the proxy. ``inner``: the protocol of what it carries, once TLS is there."""

    slice: dict[Timed, None] | None = None

    def __init__(
        self,
        inner: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        *,
        own_port: int | None,
        tasks: Supervisor,
        deadlines: Deadlines,
    ) -> None:
        self._inner, self._context, self._own_port = inner, context, own_port
        self._tasks, self._deadlines = tasks, deadlines
        self._transport: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._deadlines.schedule(self, loop_now() + HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._head += data
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if b"\r\n\r\n" not in self._head:
            if len(self._head) > HEAD_MAX:
                transport.abort()
            return
        self._deadlines.cancel(self)
        said = answer(self._head, self._own_port)
        transport.write(said)
        if said.startswith(b"HTTP/1.1 200") and self._head.endswith(b"\r\n\r\n"):
            transport.pause_reading()  # what comes next is TLS
            self._tasks.start(self._secure(transport), name="gateway:proxy")
        else:
            transport.close()

    async def _secure(self, transport: asyncio.Transport) -> None:
        loop, protocol = asyncio.get_running_loop(), self._inner()
        try:
            secured = await loop.start_tls(transport, protocol, self._context, server_side=True)
        except (OSError, ssl.SSLError):  # the client does not trust us, or has gone
            transport.abort()
            return
        if secured is not None:
            protocol.connection_made(secured)

    def connection_lost(self, error: Exception | None) -> None:
        self._deadlines.cancel(self)
        self._transport = None

    def expire(self, now: float) -> None:
        """No complete request head came."""
        if self._transport is not None:
            self._transport.abort()

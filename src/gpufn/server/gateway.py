"""The gateway process: the public ports, and nothing else."""

from __future__ import annotations

import gc
import socket
from collections.abc import Awaitable, Callable

from gpufn.gateway.server import Gateway
from gpufn.server.data import DataDirectory
from gpufn.settings import Settings
from gpufn.store.objects import open_objects


async def serve(
    settings: Settings, http: socket.socket, grpc: socket.socket, *, ready: Callable[[], None], end: Awaitable[object]
) -> None:
    """Serve until ``end`` is done; then finish what runs, for at most ``server.stop_grace`` seconds."""
    data = DataDirectory(settings.data)
    gateway = Gateway(
        settings.gateway,
        control_socket=data.control_socket,
        feed_socket=data.feed_socket,
        objects=open_objects(settings.objects.url, data.objects),
        instances=data.instances,
        pepper=data.pepper(),
        name="gateway-0",
    )
    try:
        await gateway.serve(http, grpc=grpc)
        ready()
        await end
        await gateway.drain(settings.server.stop_grace)
    finally:
        await gateway.close()


def tune() -> None:
    """Collect garbage rarely: the hot path makes no cycles, and what was imported stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

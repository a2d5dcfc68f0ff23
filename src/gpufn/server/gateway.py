"""The gateway process: the public ports, and nothing else."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

from gpufn.gateway.listening import Listening
from gpufn.gateway.server import Gateway, Sockets
from gpufn.runtime.heap import settle
from gpufn.server.certificates import files
from gpufn.server.data import DataDirectory
from gpufn.server.lifeline import HAND_OVER
from gpufn.settings import Settings
from gpufn.store.database import Sqlite
from gpufn.store.objects import open_objects
from gpufn.store.opening import open_database
from gpufn.store.threaded import ThreadedSqlite


async def serve(
    settings: Settings, listening: Listening, *, name: str, ready: Callable[[], None], end: Awaitable[object]
) -> None:
    """Serve until ``end`` is done; then finish what runs, for at most ``server.stop_grace`` seconds, or, if a successor
    serves already, ``server.handover_grace``.
    """
    data = DataDirectory(settings.data)
    opened = open_database(settings.database, data.database)
    db = ThreadedSqlite(opened) if isinstance(opened, Sqlite) else opened
    gateway = Gateway(
        settings.gateway,
        Sockets(data.control_socket, data.feed_socket),
        db=db,
        objects=open_objects(settings.objects.url, data.objects),
        instances=data.instances,
        pepper=data.pepper(),
        name=name,
        public_url=settings.server.public_url,
    )
    try:
        secured = settings.server.tls or settings.server.proxy
        await gateway.serve(listening, certificates=files(data.tls).context() if secured else None)
        ready()
        if await end == HAND_OVER:
            await gateway.drain(settings.server.handover_grace, succeeded=True)
        else:
            await gateway.drain(settings.server.stop_grace)
    finally:
        await gateway.close()
        await db.close()


def tune() -> None:
    """Collect garbage rarely: the hot path makes no cycles, and what was imported stays."""
    settle()
    gc.set_threshold(50_000, 20, 100)

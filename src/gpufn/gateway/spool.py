"""Bodies that may have to be kept: in memory while they are small, in the object store from then on, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from gpufn.gateway.archive import Archive
from gpufn.model.errors import Unavailable
from gpufn.model.ids import new_id
from gpufn.model.invocation import Body, archive_key
from gpufn.runtime.supervisor import Supervisor
from gpufn.store.objects import Objects

INLINE_MAX = 64 * 1024
"""Bytes kept in memory, and in the database's row."""
AHEAD_MAX = 2 * 1024 * 1024
"""Bytes that may wait for the object store before the sender is held."""


class Spool:
    """One body on its way to be kept. ``add`` it, then either ``finish`` or ``discard``."""

    __slots__ = (
        "_ahead",
        "_failed",
        "_held",
        "_hold",
        "_key",
        "_pieces",
        "_queue",
        "_stores",
        "_upload",
        "archive",
        "size",
    )

    def __init__(
        self, stores: Stores, key: str, hold: Callable[[bool], None], *, archive: Archive | None = None
    ) -> None:
        """``archive``: what makes a zip of it, which is kept in its place, and never in memory."""
        self.archive = archive
        self.size = 0
        self._stores = stores
        self._key = key
        self._hold = hold
        self._pieces: list[bytes] = []
        self._queue: asyncio.Queue[bytes | None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._failed: Unavailable | None = None
        self._ahead = 0
        self._held = False

    def add(self, data: bytes) -> None:
        """More of the body. The sender is held while too much of it waits to be written."""
        self.size += len(data)
        if self._queue is None:
            self._pieces.append(data)
            if self.size > INLINE_MAX or self.archive is not None:
                self._begin_upload()
            return
        self._put(data)

    async def finish(self) -> Body:
        """The body is complete: where it is kept. Raises Unavailable when it could not be."""
        if self._queue is None and self.archive is not None:
            self._begin_upload()
        if self._queue is None or self._upload is None:
            return Body(self.size, b"".join(self._pieces))
        self._queue.put_nowait(None)
        await asyncio.wait([self._upload])
        if self._failed is not None:
            raise self._failed
        return Body(self.size if self.archive is None else self.archive.size, key=self._key)

    def discard(self) -> None:
        """The body is not needed after all."""
        self._pieces.clear()
        if self._upload is not None:
            self._upload.cancel()
            self._stores.forget(self._key)

    def _begin_upload(self) -> None:
        self._queue = asyncio.Queue()
        for piece in self._pieces:
            self._put(piece)
        self._pieces.clear()
        self._upload = self._stores.tasks.start(self._run(self._queue), name="spool")

    def _put(self, data: bytes) -> None:
        if self._queue is None or self._failed is not None:
            return
        self._queue.put_nowait(data)
        self._ahead += len(data)
        if self._ahead > AHEAD_MAX and not self._held:
            self._held = True
            self._hold(True)

    async def _run(self, queue: asyncio.Queue[bytes | None]) -> None:
        try:
            content = self._drain(queue)
            await self._stores.objects.put(self._key, content if self.archive is None else self.archive.pack(content))
        except Unavailable as error:
            self._failed = error
        finally:
            self._go_on()

    async def _drain(self, queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while (piece := await queue.get()) is not None:
            yield piece
            self._ahead -= len(piece)
            if self._ahead < AHEAD_MAX / 2:
                self._go_on()

    def _go_on(self) -> None:
        if self._held:
            self._held = False
            self._hold(False)


class Stores:
    """Where spools go."""

    def __init__(self, objects: Objects, tasks: Supervisor) -> None:
        self.objects = objects
        self.tasks = tasks

    def request(self, invocation_id: str, hold: Callable[[bool], None]) -> Spool:
        """For the request of an invocation; no other one shares its object, whatever id a client chose for it."""
        return Spool(self, f"invocations/{invocation_id}/request-{new_id()}", hold)

    def result(self, invocation_id: str, fence: int, hold: Callable[[bool], None]) -> Spool:
        """For the result of one attempt: two attempts, one of them a zombie's, never share an object."""
        return Spool(self, f"invocations/{invocation_id}/result-{fence}-{new_id()}", hold)

    def archive(self, invocation_id: str, fence: int, length: int, hold: Callable[[bool], None]) -> Spool:
        """For the result of one attempt that is kept as a zip; ``length`` of the response, at most."""
        archive = Archive(invocation_id, length)
        key = archive_key(invocation_id, f"result-{fence}-{new_id()}")
        return Spool(self, key, hold, archive=archive)

    def forget(self, key: str) -> None:
        """Remove an object, sometime; the reaper finds what this misses."""
        self.tasks.start(self._delete(key), name="spool:forget")

    async def _delete(self, key: str) -> None:
        try:
            await self.objects.delete(key)
        except Unavailable:
            return  # the reaper looks for what nobody needs

"""Input assets: files of the caller that an instance finds in a directory while it serves the call.

They are looked up before the call queues, copied when it has a slot, and removed when the slot is given back
(invocation-plane page, sections 5.1 and 8.1).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gpufn.gateway import handover
from gpufn.gateway.call import Call, Edge
from gpufn.gateway.forward import Source
from gpufn.gateway.http1 import RequestHead
from gpufn.gateway.problems import ASSETS_FAILED, Refused, Reply, problem, text
from gpufn.gateway.route import is_uuid
from gpufn.gateway.slots import Slot
from gpufn.gateway.upstream import Connection, Taker
from gpufn.model.asset import object_key
from gpufn.model.errors import Unavailable
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.store.objects import Objects

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
log = get_logger("gateway.assets")

REFERENCES = b"nvcf-input-asset-references"
LINE = b"NVCF-FUNCTION-ASSET-IDS: "
MAX = 64
"""Assets of one call."""


def references(head: RequestHead) -> tuple[str, ...]:
    """The assets a request names, each once. Raises Refused (400, plain text) for what is no UUID."""
    items = [item.strip(b" \t") for item in head.values.get(REFERENCES, b"").split(b",")]
    found = dict.fromkeys(item.decode("latin-1").lower() for item in items if item)
    if not all(is_uuid(item.encode("latin-1")) for item in found):
        raise Refused(text(400, "header nvcf-input-asset-references: must be a comma-separated list of UUIDs"))
    if len(found) > MAX:
        raise Refused(text(400, f"header nvcf-input-asset-references: names more than {MAX} assets"))
    return tuple(found)


class Assets:
    """The assets as calls use them. ``instances`` holds the directories of the instances on this machine."""

    def __init__(self, objects: Objects, tasks: Supervisor, instances: Path) -> None:
        self.tasks = tasks
        self._objects = objects
        self._instances = instances

    async def missing(self, nca_id: str, ids: tuple[str, ...]) -> str | None:
        """The first of ``ids`` that the account does not have. Raises Unavailable."""
        for asset_id in ids:
            if await self._objects.head(object_key(nca_id, asset_id)) is None:
                return asset_id
        return None

    def source(self, slot: Slot, head: bytes, request_id: bytes, nca_id: str) -> Source:
        """The connections for a call whose request head is ``head``: they come once its assets are there."""
        at = head.find(b"\r\n" + LINE)
        if at < 0:
            return slot.instance.pool
        names = head[at + 2 + len(LINE) : head.index(b"\r\n", at + 2)]
        staged = _Staged(self, slot, request_id.decode(), tuple(names.decode().split(",")), nca_id)
        slot.when_released(staged.clear)
        return staged

    def shared(self, instance_id: str) -> Path:
        """What the instance sees as ``/var/inf``, as this process sees it."""
        return self._instances / instance_id / "inf"

    async def copy(self, directory: int, nca_id: str, asset_id: str) -> None:
        """Write one asset into an open directory. Raises Unavailable, OSError."""
        pieces = await self._objects.get(object_key(nca_id, asset_id))
        if pieces is None:
            raise Unavailable(f"asset {asset_id} is not there any more")
        file = await _in_thread(handover.create, directory, asset_id, unused=os.close)
        with os.fdopen(file, "wb", buffering=0) as sink:
            async for piece in pieces:
                await _in_thread(_write, sink.fileno(), piece, unused=_nothing)


class _Staged:
    """The way to an instance, by way of its directory."""

    def __init__(self, assets: Assets, slot: Slot, request_id: str, ids: tuple[str, ...], nca_id: str) -> None:
        self._assets = assets
        self._slot = slot
        self._shared = assets.shared(slot.instance.facts.id)
        self._request_id = request_id
        self._ids = ids
        self._nca_id = nca_id
        self._work: asyncio.Task[None] | None = None

    def acquire(self, taker: Taker, *, fresh: bool) -> None:
        if self._work is not None:  # a second connection for the same call: the files are there
            self._slot.instance.pool.acquire(taker, fresh=fresh)
            return
        self._work = self._assets.tasks.start(self._stage(taker), name="assets:stage")

    def put(self, connection: Connection) -> None:
        self._slot.instance.pool.put(connection)

    def clear(self) -> None:
        """The call is over."""
        self._assets.tasks.start(self._clear(), name="assets:clear")

    async def _stage(self, taker: Taker) -> None:
        try:
            directory = await _in_thread(handover.begin, self._shared, self._request_id, unused=os.close)
            try:
                for asset_id in self._ids:
                    await self._assets.copy(directory, self._nca_id, asset_id)
            finally:
                os.close(directory)
        except (OSError, Unavailable) as error:
            log.warning("assets could not be handed over", request=self._request_id, error=str(error))
            taker.unreachable(ASSETS_FAILED)
            return
        self._slot.instance.pool.acquire(taker, fresh=True)

    async def _clear(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        await asyncio.to_thread(handover.remove, self._shared, self._request_id)


class AssetCall:
    """A call whose assets are looked up before it queues. ``begin`` makes the call itself; it may raise Refused."""

    broken_body = "failed to read request body: "

    def __init__(self, edge: Edge, begin: Callable[[bytes, bool], Call], cors: tuple[bytes, ...]) -> None:
        self._edge: Edge | None = edge
        self._begin = begin
        self._cors = cors
        self._pieces: list[bytes] = []
        self._complete = False
        self._inner: Call | None = None
        self._work: asyncio.Task[None] | None = None

    def enter(self, assets: Assets, nca_id: str, ids: tuple[str, ...], body: bytes, complete: bool) -> None:
        """Look them up; the request's body waits meanwhile."""
        self.body(body, complete)
        if self._edge is not None and not complete:
            self._edge.hold(True)
        self._work = assets.tasks.start(self._look_up(assets, nca_id, ids), name="assets:look up")

    def body(self, data: bytes, last: bool) -> None:
        if self._inner is not None:
            self._inner.body(data, last)
            return
        self._pieces.append(data)
        self._complete = last

    def client_gone(self) -> None:
        self._edge = None
        if self._inner is not None:
            self._inner.client_gone()
        elif self._work is not None:
            self._work.cancel()

    def client_slow(self, on: bool) -> None:
        if self._inner is not None:
            self._inner.client_slow(on)

    async def _look_up(self, assets: Assets, nca_id: str, ids: tuple[str, ...]) -> None:
        edge = self._edge
        try:
            missing = await assets.missing(nca_id, ids)
            if missing is not None:
                raise Refused(problem(404, f"NotFound error: failed to find asset {missing}"))
            if self._edge is not None:
                self._start(self._edge)
        except Unavailable as error:
            self._refuse(edge, problem(500, f"failed to get asset dtos: {error.message}"))
        except Refused as refused:
            self._refuse(edge, refused.reply)

    def _start(self, edge: Edge) -> None:
        pieces, self._pieces = self._pieces, []
        self._inner = self._begin(b"".join(pieces), self._complete)
        if not self._complete:
            edge.hold(False)

    def _refuse(self, edge: Edge | None, reply: Reply) -> None:
        self._pieces.clear()
        if edge is not None and self._edge is not None:
            edge.reply(Reply(reply.status, (*reply.lines, *self._cors), reply.body))


async def _in_thread(work: Callable[[A, B], T], one: A, two: B, *, unused: Callable[[T], object]) -> T:
    """Run it in a thread. Cancelled meanwhile, its end is awaited all the same: a file that it uses stays open until
    then, for the number of a closed one is soon another client's socket. What came of it goes to ``unused``.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work, one, two)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled() and running.exception() is None:
            unused(running.result())
        raise


def _nothing(written: None) -> None:
    """There is nothing to undo."""


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]

"""What an instance answered, on its way to being kept: as it is, or as a zip (invocation-plane page, section 8.3)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from gpufn.gateway import sse
from gpufn.gateway.answers import stored, worker_result
from gpufn.gateway.archive import Artifact, Unpackable, artifacts
from gpufn.gateway.budget import Budget
from gpufn.gateway.http1 import RequestHead, ResponseHead
from gpufn.gateway.problems import worker_problem
from gpufn.gateway.slots import Slot
from gpufn.gateway.spool import Spool, Stores
from gpufn.gateway.version import MAX_RESPONSE_SIZE
from gpufn.model.errors import Unavailable
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome


def passes_on(request: RequestHead, head: ResponseHead, body: bytes, last: bool, slot: Slot | None) -> bool:
    """Whether a response goes to the client as it comes: it is small, and there are no files beside it; or it is a
    stream of events that the client asked for, which nobody wants as a zip at its end.
    """
    size = len(body) if last else head.length
    if size is None:
        return sse.wanted(request, [*head.plain, *(line for _, line in head.special)])
    return size <= MAX_RESPONSE_SIZE and not (slot is not None and slot.wrote())


class Gathered:
    """A response that is held in memory, until it is known whether it is small."""

    def __init__(self, memory: Budget) -> None:
        self.size = 0
        self._memory = memory
        self._counted = 0
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> bool:
        """Hold ``data`` too; False when there is no room for more."""
        fits = self._memory.reserve(len(data), self.size) is None
        self._counted += len(data) if fits else 0
        self.size += len(data)
        self._pieces.append(data)
        return fits

    def take(self) -> bytes:
        """All of it, which is held no more."""
        self._memory.free(self._counted)
        self._counted = 0
        data, self._pieces = b"".join(self._pieces), []
        return data


class Answer:
    """An instance's response as it comes. ``finish`` it once all of it is there, or ``discard`` it."""

    def __init__(self, stores: Stores, record: AcceptedInvocation, head: ResponseHead, spool: Spool) -> None:
        self.head = head
        self.spool = spool
        self.directory: Path | None = None
        """The files that belong to it, out of the instance's reach."""
        self._stores = stores
        self._record = record

    @property
    def size(self) -> int:
        """Bytes of the response so far."""
        return self.spool.size

    def add(self, data: bytes) -> None:
        """More of the response."""
        self.spool.add(data)

    def discard(self) -> None:
        """It is not needed after all."""
        self.spool.discard()
        self._remove()

    async def finish(self, limit: int) -> Outcome:
        """Keep it. ``limit``: bytes that the files may have."""
        try:
            files = await asyncio.to_thread(artifacts, self.directory, limit) if self.directory is not None else ()
            return await self._kept(files)
        except Unpackable as error:
            self.spool.discard()
            return stored(worker_problem("nvcf-worker-service", 500, f"the result cannot be kept: {error.message}"))
        except (Unavailable, OSError) as error:
            self.spool.discard()
            return stored(worker_problem("nvcf-worker-service", 500, f"the result could not be kept: {error}"))
        finally:
            self._remove()

    async def _kept(self, files: tuple[Artifact, ...]) -> Outcome:
        archive = self.spool.archive
        if archive is not None:
            archive.directory, archive.files = self.directory, files
        body = await self.spool.finish()
        if archive is None and (files or body.size > MAX_RESPONSE_SIZE):
            body = await self._packed(body, files)
        if body.is_archive:
            return Outcome(302, (), body)
        return worker_result(self.head, body)

    async def _packed(self, body: Body, files: tuple[Artifact, ...]) -> Body:
        """The zip of a response that is kept already."""
        record, go_on = self._record, asyncio.Event()
        go_on.set()
        spool = self._stores.archive(
            record.id, record.fence, body.size, lambda on: go_on.clear() if on else go_on.set()
        )
        archive = spool.archive
        if archive is not None:
            archive.directory, archive.files = self.directory, files
        try:
            if body.key is None:
                spool.add(body.content)
            elif (pieces := await self._stores.objects.get(body.key)) is not None:
                async for piece in pieces:
                    await go_on.wait()
                    spool.add(piece)
            return await spool.finish()
        except BaseException:
            spool.discard()
            raise
        finally:
            if body.key is not None:
                self._stores.forget(body.key)

    def _remove(self) -> None:
        directory, self.directory = self.directory, None
        if directory is not None:
            self._stores.tasks.start(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True), name="results")


def receive(stores: Stores, record: AcceptedInvocation, head: ResponseHead, hold: Callable[[bool], None]) -> Answer:
    """Begin to keep a response: one that is known to be large goes into its zip at once."""
    if head.length is not None and head.length > MAX_RESPONSE_SIZE:
        return Answer(stores, record, head, stores.archive(record.id, record.fence, head.length, hold))
    return Answer(stores, record, head, stores.result(record.id, record.fence, hold))

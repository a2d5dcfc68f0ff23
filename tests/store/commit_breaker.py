"""A proxy in front of PostgreSQL that breaks connections at the worst moment: while a commit is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
COMMIT = b"COMMIT"


class Break(Enum):
    """What happens to a commit."""

    NOTHING = "it arrives and is answered"
    BEFORE = "the connection ends before the server has seen it"
    AFTER = "the server carries it out, the answer is lost"
    LATE = "the client loses the connection first, the server gets the commit a moment later"


class CommitBreaker:
    """Forwards everything; asks ``decide`` at each commit that a client sends."""

    def __init__(self, target: Path, decide: Callable[[], Break]) -> None:
        self._target, self._decide = target, decide
        self._open: set[asyncio.Task[None]] = set()
        self.broken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._target / SOCKET))
        except OSError:  # the server is away
            writer.close()
            return
        back = asyncio.get_running_loop().create_task(_pump(server_reader, writer))
        self._open.add(back)
        try:
            await self._forward(reader, server_writer, writer, back)
        except OSError:
            pass
        finally:
            back.cancel()
            self._open.discard(back)
            for end in (writer, server_writer):
                end.close()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        back: asyncio.Task[None],
    ) -> None:
        while data := await reader.read(65536):
            fate = self._decide() if COMMIT in data else Break.NOTHING
            if fate is not Break.NOTHING:
                self.broken += 1
                back.cancel()
                await asyncio.sleep(0)
            if fate is Break.BEFORE:
                return
            if fate is Break.LATE:
                client.close()
                await asyncio.sleep(0.2)
            server.write(data)
            await server.drain()
            if fate is not Break.NOTHING:
                await asyncio.sleep(0.05)
                return


@asynccontextmanager
async def breaking(target: Path, directory: Path, decide: Callable[[], Break]) -> AsyncIterator[CommitBreaker]:
    """The proxy, on a socket in ``directory``, in front of the server whose socket lies in ``target``."""
    breaker = CommitBreaker(target, decide)
    server = await asyncio.start_unix_server(breaker.serve, str(directory / SOCKET))
    try:
        yield breaker
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()

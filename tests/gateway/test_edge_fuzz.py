"""The client's side of the gateway, byte by byte: however bytes are cut up on the way, they mean the same."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

from test_http1 import SEEDS, mutated

from gpufn.gateway.deadlines import Deadlines
from gpufn.gateway.edge import Connection
from gpufn.gateway.http1 import RequestHead
from gpufn.gateway.problems import Reply
from gpufn.settings import GatewaySettings


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Everything is fed by hand."""

    def resume_reading(self) -> None:
        """Everything is fed by hand."""


class Recorder:
    """A service that takes every request, and answers when all of it is there."""

    def __init__(self) -> None:
        self.settings = GatewaySettings()
        self.deadlines = Deadlines()
        self.edges: set[Connection] = set()
        self.stopping = False
        self.requests: list[list[Any]] = []

    def handle(self, edge: Connection, head: RequestHead, body: bytes, complete: bool) -> Any:
        self.requests.append([head.method, head.target, sorted(head.values.items()), body, complete])
        return Reply(200, (), b"ok") if complete else Upload(edge, self.requests[-1])


class Upload:
    """A request whose body is still coming."""

    broken_body = "broken: "

    def __init__(self, edge: Connection, record: list[Any]) -> None:
        self._edge, self._record = edge, record

    def body(self, data: bytes, last: bool) -> None:
        self._record[3] += data
        self._record[4] = last
        if last:
            self._edge.reply(Reply(200, (), b"ok"))

    def client_gone(self) -> None:
        """Its record stays incomplete."""

    def client_slow(self, on: bool) -> None:
        """Nothing is slow here."""


async def meaning(pieces: list[bytes]) -> tuple[list[list[Any]], list[bytes], bool]:
    """What a connection makes of ``pieces``: requests, answers (refusals are all alike), whether it was closed."""
    service, wire = Recorder(), Wire()
    edge = Connection(service)
    edge.connection_made(wire)
    for piece in pieces:
        if wire.closed:
            break
        edge.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(10):  # each request that waits is taken up in a turn of the loop of its own
        await asyncio.sleep(0)
    complete = [record for record in service.requests if record[4]]
    statuses = re.findall(rb"HTTP/1\.1 ([2-5][0-9]{2}) ", wire.written)
    return complete, [b"200" if status == b"200" else b"refused" for status in statuses], wire.closed


async def test_bytes_mean_the_same_however_they_are_cut() -> None:
    """Whole, byte by byte and at random cuts, mutated requests give the same requests, answers and end."""
    rng = random.Random(20261125)
    several = 0
    for number in range(700):
        data = mutated(SEEDS[number % len(SEEDS)] + SEEDS[rng.randrange(len(SEEDS))], rng)
        whole = await meaning([data])
        several += len(whole[0]) > 1
        cuts = sorted(rng.sample(range(len(data)), 3))
        thrice = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for pieces in ([data[n : n + 1] for n in range(len(data))], thrice):
            assert await meaning(pieces) == whole, data
    assert several > 50

"""What control tells its gateways and hears from them, on the internal socket (see ``wire.feed``).

Whoever can open the socket is trusted: it lies in the data directory, which nobody else may enter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gpufn.api.lines import LineStream
from gpufn.runtime.clock import loop_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.runtime.supervisor import Supervisor
from gpufn.scaling.load import LoadBoard
from gpufn.wire.feed import Envelope, LoadReport, Message, Synced

HEARTBEAT = 5.0
"""Seconds of silence after which an empty line is sent, so that a dead peer is noticed."""
MAX_REPORT = 64 * 1024 * 1024
"""Largest load report, in bytes."""
BUFFER = 256
"""Lines prepared ahead of a slow gateway."""


def build(feed: Retained[Message], load: LoadBoard, hints: Hints) -> Starlette:
    """``GET /feed`` and ``POST /load``."""

    async def stream(request: Request) -> Response:
        return LineStream(lines(feed))

    async def report(request: Request) -> Response:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_REPORT:
                return PlainTextResponse("the report is too long", 413)
        try:
            told = LoadReport.model_validate_json(bytes(content))
        except ValidationError as error:
            return PlainTextResponse(f"not a load report: {error.error_count()} errors", 400)
        for version_id in load.report(told, now=loop_now()):
            hints.hint("load", version_id)
        return Response(status_code=204)

    return Starlette(routes=[Route("/feed", stream), Route("/load", report, methods=["POST"])])


async def lines(feed: Retained[Message], *, heartbeat: float = HEARTBEAT) -> AsyncGenerator[bytes, None]:
    """Everything retained, then ``synced``, then each change; an empty line after each ``heartbeat`` of silence."""
    ready: asyncio.Queue[bytes] = asyncio.Queue(BUFFER)
    async with Supervisor() as tasks:
        pump = tasks.start(_pump(feed, ready), name="feed")
        while not pump.done() or not ready.empty():
            try:
                line = await asyncio.wait_for(ready.get(), heartbeat)
            except TimeoutError:
                line = b"\n"
            yield line


async def _pump(feed: Retained[Message], ready: asyncio.Queue[bytes]) -> None:
    async for item in feed.subscribe():
        seq, message = (feed.seq, Synced()) if item is None else (item[0], item[2])
        await ready.put(Envelope(seq=seq, message=message).model_dump_json(by_alias=True).encode() + b"\n")

"""Answers that are lines of JSON, sent as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.responses import StreamingResponse
from starlette.types import Send


class LineStream(StreamingResponse):
    """Newline-delimited JSON, or another text of lines. The source is closed as soon as
    the client has gone, not when memory is swept.
    """

    def __init__(self, lines: AsyncGenerator[bytes, None], *, media_type: str = "application/x-ndjson") -> None:
        super().__init__(lines, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._lines = lines

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            await self._lines.aclose()

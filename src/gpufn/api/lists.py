"""Long lists: read page by page, sent as they are read, never whole in memory.

Each page is a short transaction, and others get their turn between two of them. The first pages are read before the
answer begins, so refusals are answered as such; a failure later ends the connection, and no client takes half a list
for a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from fastapi import Response
from pydantic import TypeAdapter
from starlette.responses import StreamingResponse

from gpufn.store.database import Database, Transaction
from gpufn.store.pages import Position

PAGE = 50
"""Elements that are read and sent at a time: few enough that nobody notices."""
LEAN_PAGE = 500
"""The same where elements are no more than ids."""
T = TypeVar("T")
Read = Callable[[Transaction, Position | None], tuple[Sequence[T], Position | None]]
"""What follows a position, and the position after which to go on; None at the end."""


async def pages(db: Database, read: Read[T]) -> AsyncIterator[Sequence[T]]:
    """Every page that is not empty."""
    after: Position | None = None
    while True:
        found, after = await db.run(lambda tx, after=after: read(tx, after))  # type: ignore[misc]
        if found:
            yield found
        if after is None:
            return
        await asyncio.sleep(0)


async def answered(member: str, kind: Any, found: AsyncIterator[Sequence[Any]]) -> Response:
    """``{"<member>": [...]}`` of every element, each of type ``kind``: whole when it is short, else as a stream."""
    head, encode = f'{{"{member}":['.encode(), _encoder(kind)
    first = [page async for page in _up_to(2, found)]
    if len(first) < 2:
        content = head + b"".join(map(encode, first)) + b"]}"
        return Response(content, media_type="application/json")

    async def body() -> AsyncIterator[bytes]:
        yield head + encode(first[0])
        yield b"," + encode(first[1])
        async for page in found:
            yield b"," + encode(page)
        yield b"]}"

    return StreamingResponse(body(), media_type="application/json")


async def _up_to(count: int, found: AsyncIterator[T]) -> AsyncIterator[T]:
    for _ in range(count):
        try:
            yield await anext(found)
        except StopAsyncIteration:
            return


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(Sequence[kind])


def _encoder(kind: Any) -> Callable[[Sequence[Any]], bytes]:
    adapter = _adapter(kind)
    return lambda page: adapter.dump_json(page, by_alias=True, exclude_none=True)[1:-1]

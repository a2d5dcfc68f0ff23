"""Large things by key: a directory of the installation, or a bucket that speaks S3.

An object appears under its key when all of it is there, and never half. Keys are ours, ``kind/owner/id``, never a
user's text: whoever makes one checks what goes into it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from gpufn.model.errors import Fatal, Unavailable

CHUNK = 256 * 1024
"""Bytes read or written at once."""
PART, PARTS_AT_ONCE = 16 * 1024 * 1024, 4
"""Of a bucket: S3 refuses parts below 5 MiB and more than 10,000 of them, so an object may have 160 GB; and so many
parts are on their way at once, which bounds the memory.
"""


@dataclass(frozen=True)
class ObjectFacts:
    """One object. ``size`` in bytes."""

    key: str
    size: int
    modified_at: datetime


class Objects:
    """The object store. Every method raises Unavailable when it cannot be reached, written or read now."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, key: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Keep ``content``, in place of what ``key`` held. An iterable that raises leaves nothing behind."""
        with _translated():
            if isinstance(self._store, S3Store):
                await obstore.put_async(self._store, key, content, chunk_size=PART, max_concurrency=PARTS_AT_ONCE)
            else:
                await obstore.put_async(self._store, key, content, chunk_size=CHUNK)

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        """The content in pieces; None when there is no such object."""
        with _translated():
            try:
                found = await obstore.get_async(self._store, key)
            except FileNotFoundError:
                return None
        return _pieces(found)

    async def head(self, key: str) -> ObjectFacts | None:
        """Size and age; None when there is no such object."""
        with _translated():
            try:
                meta = await obstore.head_async(self._store, key)
            except FileNotFoundError:
                return None
        return ObjectFacts(meta["path"], meta["size"], meta["last_modified"])

    async def signed_get(self, key: str, seconds: int) -> str | None:
        """A URL of the store itself under which anybody may read ``key`` for so long; None when it makes no such."""
        if not isinstance(self._store, S3Store):
            return None
        with _translated():
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))

    async def delete(self, *keys: str) -> None:
        """Remove objects; one that is not there is no mistake."""
        for key in keys:
            with _translated():
                try:
                    await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    continue

    async def list(self, prefix: str) -> AsyncIterator[ObjectFacts]:
        """Every object whose key begins with the folders ``prefix``, in no particular order."""
        with _translated():
            async for page in obstore.list(self._store, prefix):
                for meta in page:
                    yield ObjectFacts(meta["path"], meta["size"], meta["last_modified"])


def open_objects(url: str, directory: Path) -> Objects:
    """The store at ``url`` (``s3://bucket/prefix``), or in ``directory`` when that is empty. Raises Fatal."""
    try:
        if url:
            return Objects(from_url(url))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Objects(LocalStore(str(directory)))
    except (BaseError, OSError) as error:
        where = url or directory
        raise Fatal(f"objects.url: the object store {where} cannot be used: {error}", exit_code=4) from error


async def _pieces(found: obstore.GetResult) -> AsyncIterator[bytes]:
    with _translated():
        async for piece in found.stream(min_chunk_size=CHUNK):
            yield bytes(piece)


@contextmanager
def _translated() -> Iterator[None]:
    """The library's errors, in our words."""
    try:
        yield
    except BaseError as error:
        raise Unavailable(f"the object store cannot be used now: {error}; see that it is there, then retry") from error

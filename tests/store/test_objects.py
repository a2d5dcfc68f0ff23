"""The object store, on a real directory and on what speaks S3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import s3_server

from gpufn.model.errors import Fatal
from gpufn.store.objects import Objects, open_objects

BUCKET = "results"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, with a bucket."""
    if not s3_server.is_there():
        pytest.skip(s3_server.WHY_NOT)
    with s3_server.serving(BUCKET) as url:
        yield url


@pytest.fixture(params=["directory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """An empty store."""
    if request.param == "directory":
        return open_objects("", tmp_path / "objects")
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": request.getfixturevalue("s3"),
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return open_objects(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "unused")


async def content(objects: Objects, key: str) -> bytes | None:
    """All of one object."""
    pieces = await objects.get(key)
    return None if pieces is None else b"".join([piece async for piece in pieces])


async def test_what_was_put_is_there_in_full(objects: Objects) -> None:
    """Bytes and streams come back as they went in, with their size, and a second put replaces the first."""

    async def stream() -> AsyncIterator[bytes]:
        for n in range(100):
            yield bytes([n]) * 10_000

    await objects.put("a/one", b"hello")
    await objects.put("a/two", stream())
    assert await content(objects, "a/one") == b"hello"
    assert await content(objects, "a/two") == b"".join(bytes([n]) * 10_000 for n in range(100))
    await objects.put("a/one", b"other")
    assert await content(objects, "a/one") == b"other"
    facts = await objects.head("a/two")
    assert facts is not None
    assert facts.size == 1_000_000


async def test_what_is_larger_than_a_part(objects: Objects) -> None:
    """An object of several parts of a bucket comes back as it went in."""

    async def stream() -> AsyncIterator[bytes]:
        for n in range(40):
            yield bytes([n]) * 1_000_003

    await objects.put("a/large", stream())
    assert await content(objects, "a/large") == b"".join(bytes([n]) * 1_000_003 for n in range(40))


async def test_a_stream_that_breaks_leaves_nothing(objects: Objects) -> None:
    """An upload whose sender goes away half-way does not make an object."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await objects.put("a/half", broken())
    assert await content(objects, "a/half") is None
    assert [o async for o in objects.list("a")] == []


async def test_what_is_not_there(objects: Objects) -> None:
    """Reading finds nothing, and deleting is no mistake."""
    assert await objects.head("a/none") is None
    await objects.put("a/b/one", b"1")
    await objects.put("ab/two", b"2")
    await objects.delete("a/none", "a/b/one")
    assert [o.key async for o in objects.list("a")] == []
    assert [o.key async for o in objects.list("ab")] == ["ab/two"]


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """The start ends with a message that names the place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal, match="file/objects"):
        open_objects("", tmp_path / "file" / "objects")

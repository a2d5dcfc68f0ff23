"""A result as a zip: the instance's response, and the files it left beside it (invocation-plane page, section 8.3).

Written as it is read, so that its size does not matter. Nothing is compressed: results of that size are images, video
and numbers mostly, and a gateway has better things to do. What the instance left is not trusted: only regular files
go in, no link is followed, and their number, their size and their names have limits.
"""

from __future__ import annotations

import asyncio
import os
import re
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gpufn.model.errors import Invalid, Unavailable

PROGRESS = "progress"
"""The file that is not part of the result."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not wait for its writer
PIECE = 256 * 1024
"""Bytes read from a file at once."""
ENTRIES_MAX = 10_000
"""Files and directories of one result."""
DEPTH_MAX = 32
"""Directories one below the other."""
NAME_MAX = 1024
"""Longest name of a file with its directories, in bytes."""
LOOK_MAX = 500
"""Entries that are looked at to find one file."""
FOREIGN = re.compile(r"\\|^[A-Za-z]:")
"""What means something else in a path of another system."""
ZIP64 = zipfile.ZIP64_LIMIT // 2


class Unpackable(Invalid):
    """What the instance left cannot be put into a result."""


class Artifact(NamedTuple):
    """A file of the result: its name in the zip, and how many bytes of it there are."""

    name: str
    size: int


class Archive:
    """Makes one zip. ``files`` are added after the response, if they are there by its end; ``size`` bytes were made."""

    def __init__(self, request_id: str, length: int) -> None:
        """``length``: of the response in bytes, at most."""
        self.directory: Path | None = None
        self.files: tuple[Artifact, ...] = ()
        self.size = 0
        self._request_id = request_id
        self._length = length

    async def pack(self, response: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The zip, in pieces. Raises Unavailable when a file cannot be read."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as made:
            with made.open(response_name(self._request_id), "w", force_zip64=self._length > ZIP64) as entry:
                async for piece in response:
                    entry.write(piece)
                    yield self._count(sink.taken())
            for file in self.files:
                with made.open(file.name, "w", force_zip64=file.size > ZIP64) as entry:
                    async for piece in _content(self.directory, file):
                        entry.write(piece)
                        yield self._count(sink.taken())
        yield self._count(sink.taken())

    def _count(self, data: bytes) -> bytes:
        self.size += len(data)
        return data


class _Sink:
    """Where the zip is written: nothing of it can be changed later."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing below."""

    def close(self) -> None:
        """There is nothing below."""

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def has_files(directory: int) -> bool:
    """Whether there is a file of the result below that open directory, or so much that one cannot tell at once."""
    for seen, (name, entry) in enumerate(_walk(directory)):
        if seen >= LOOK_MAX or (name != PROGRESS and entry.is_file(follow_symlinks=False)):
            return True
    return False


def response_name(request_id: str) -> str:
    """What the response itself is called in the zip."""
    return f"{request_id}.response"


def artifacts(directory: Path, limit: int) -> tuple[Artifact, ...]:
    """The files of the result of the request that ``directory`` is named after, at most ``limit`` bytes together.

    Raises Unpackable, OSError. It blocks.
    """
    found = []
    total = 0
    opened = os.open(directory, DIRECTORY)
    try:
        for seen, (name, entry) in enumerate(_walk(opened)):
            if seen >= ENTRIES_MAX:
                raise Unpackable(f"the output directory has more than {ENTRIES_MAX} entries; pack them into one file")
            if name == PROGRESS or not entry.is_file(follow_symlinks=False):
                continue
            if name == response_name(directory.name):
                raise Unpackable(f"the output file {name} has the name of the response; rename it")
            size = entry.stat(follow_symlinks=False).st_size
            total += size
            if total > limit:
                raise Unpackable(f"the output files are larger than {limit} bytes together, the most that is kept")
            found.append(Artifact(_checked(name), size))
    finally:
        os.close(opened)
    return tuple(sorted(found))


def _walk(directory: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below an open directory, with its path there; never more at once than one level has directories."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        opened = _below(directory, below.split("/")[:-1])
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    yield below + entry.name, entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{below}{entry.name}/")
        finally:
            os.close(opened)
        if below.count("/") > DEPTH_MAX:
            raise Unpackable(f"the output directory has more than {DEPTH_MAX} levels; use fewer")


def _below(directory: int, names: Sequence[str]) -> int:
    """A directory below an open one, reached a step at a time and through no link. Raises OSError."""
    at = os.dup(directory)
    for name in names:
        try:
            after = os.open(name, DIRECTORY, dir_fd=at)
        finally:
            os.close(at)
        at = after
    return at


def _checked(name: str) -> str:
    """A name as it is in the zip. Whoever unpacks it may be on another system. Raises Unpackable."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = NAME_MAX + 1
    if length > NAME_MAX or not name.isprintable() or FOREIGN.search(name):
        raise Unpackable(f"the output file {ascii(name)[:200]} has a name that not every system can unpack; rename it")
    return name


async def _content(directory: Path | None, file: Artifact) -> AsyncIterator[bytes]:
    """The first ``size`` bytes of a file, or what there is of them. Raises Unavailable."""
    if directory is None:
        return
    try:
        source = await asyncio.to_thread(_open, directory, file.name)
        try:
            left = file.size
            while left > 0 and (piece := await asyncio.to_thread(os.read, source, min(PIECE, left))):
                left -= len(piece)
                yield piece
        finally:
            os.close(source)
    except OSError as error:
        raise Unavailable(f"the output file {file.name} cannot be read: {error.strerror}") from error


def _open(directory: Path, name: str) -> int:
    *parents, last = name.split("/")
    root = os.open(directory, DIRECTORY)
    try:
        parent = _below(root, parents)
    finally:
        os.close(root)
    try:
        return os.open(last, FILE, dir_fd=parent)
    finally:
        os.close(parent)

"""Does the write-ahead log of a SQLite file hold more than SQLite will read from it?

SQLite reads the log up to the first frame that is not whole and drops the rest without a word: right for the last
transaction of a machine that lost power, and silent loss for a log that was damaged. Every commit is synced before the
next one begins, so a commit that lies beyond the readable part tells the two apart. The format is that of
https://www.sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER, FRAME = 32, 24
"""Bytes of the log's header, and of the header before each page."""
MAGIC = (0x377F0682, 0x377F0683)
"""Checksums over little-endian and over big-endian words."""
PAGE_SIZES = frozenset(2**n for n in range(9, 17))
LOOKS, PAUSE = 6, 0.02
"""Another process may be writing the log: what is half-written at one look is whole at the next. Seconds."""
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class _Frame:
    commit: bool
    """It ends a transaction."""
    current: bool
    """It was written since the log began anew; a damaged mark counts, for older frames share neither half of it."""
    whole: bool
    """SQLite can read it, given that it could read all before it."""


def damage(database: Path) -> str | None:
    """What is wrong with the log beside ``database``; None when SQLite will read every commit in it."""
    path, problem = database.with_name(f"{database.name}-wal"), None
    for _ in range(LOOKS):
        problem = _look(database, path)
        if problem is None:
            return None
        time.sleep(PAUSE)
    return problem


def _look(database: Path, path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            if is_missing(database):
                return "there is a write-ahead log, but no database" if file.read(1) else None
            return _damage(file)
    except FileNotFoundError:
        return None


def is_missing(database: Path) -> bool:
    """Whether the file is not there, or empty, which SQLite takes for a new database."""
    return not database.exists() or database.stat().st_size == 0


def _damage(file: BinaryIO) -> str | None:
    header = file.read(HEADER)
    if len(header) < HEADER:
        return None  # cut off while it was made: nothing was committed to it
    magic, _, page, _, *salts, sum0, sum1 = struct.unpack(">8I", header)
    order = "<" if magic == MAGIC[0] else ">"
    sums = _checksum(header[:FRAME], order, 0, 0)
    if magic not in MAGIC or page not in PAGE_SIZES or sums != (sum0, sum1):
        return "the header of the write-ahead log is damaged" if file.read(1) else None
    readable, lost = True, 0
    for frame in _frames(file, page, order, (salts[0], salts[1]), sums):
        readable = readable and frame.whole
        lost += not readable and frame.current and frame.commit
    return f"{lost} committed transactions in the write-ahead log cannot be read" if lost else None


def _frames(file: BinaryIO, page: int, order: str, salts: tuple[int, int], sums: tuple[int, int]) -> Iterator[_Frame]:
    whole = True
    while len(raw := file.read(FRAME + page)) == FRAME + page:
        _, size, salt0, salt1, sum0, sum1 = struct.unpack_from(">6I", raw)
        if whole:
            sums = _checksum(raw[FRAME:], order, *_checksum(raw[:8], order, *sums))
            whole = sums == (sum0, sum1) and (salt0, salt1) == salts
        yield _Frame(commit=size > 0, current=salt0 == salts[0] or salt1 == salts[1], whole=whole)


def _checksum(data: bytes, order: str, s0: int, s1: int) -> tuple[int, int]:
    for x0, x1 in struct.iter_unpack(f"{order}2I", data):
        s0 = (s0 + x0 + s1) & _MASK
        s1 = (s1 + x1 + s0) & _MASK
    return s0, s1

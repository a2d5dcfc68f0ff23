"""The log file of one instance: written by its processes, bounded and read by us.

The processes append to it directly, not through a pipe, so that they outlive us. When it is full its older half is
cut; what is written in the very moment of cutting may be lost.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

LINE_MAX = 64 * 1024
"""Longest line, in bytes; longer ones are split."""
BLOCK = 256 * 1024
MARKS = 4096
"""Times of writing that are remembered of each file; with more, only the newest."""
FOLLOW_INTERVAL = 0.1
"""Seconds between two looks for new lines."""


class LogFile:
    """Positions count from the first byte ever written, so that cutting does not move them."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max, self._cut = max_bytes, 0
        self._marks: deque[tuple[int, float]] = deque(maxlen=MARKS)

    def create(self) -> int:
        """Open it for appending, for the owner alone; returns a file descriptor that the caller closes."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def trim(self) -> None:
        """Cut the older half, at the end of a line, if the file is above its bound."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self._max:
            return
        with self.path.open("r+b") as file:
            file.seek(size - self._max // 2)
            kept = file.read()
            kept = kept[kept.find(b"\n") + 1 :]
            end = file.tell()
            file.truncate(0)
        with self.path.open("ab") as file:  # its writers append too: nobody overwrites anybody
            file.write(kept)
        self._cut += end - len(kept)

    def mark(self) -> None:
        """Remember when the file was last written, and how far: what it holds now is not newer."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        position = self._cut + found.st_size
        if not self._marks or position > self._marks[-1][0]:
            self._marks.append((position, found.st_mtime))

    def start_after(self, moment: float) -> int:
        """The position of the line that was being written at ``moment`` (seconds since the epoch), or an earlier one:
        what lies before it was written before.
        """
        self.mark()
        older = max((position for position, at in self._marks if at < moment), default=self._cut)
        return self._line_start(max(older, self._cut))

    def _line_start(self, position: int) -> int:
        start = max(self._cut, position - LINE_MAX)
        try:
            with self.path.open("rb") as file:
                file.seek(start - self._cut)
                before = file.read(position - start)
        except FileNotFoundError:
            return position
        return start + before.rfind(b"\n") + 1 if b"\n" in before else start

    def read(self, position: int) -> tuple[bytes, int]:
        """Up to one block from ``position`` on, and the position after it. What was cut is skipped."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, position - self._cut))
                start = file.tell() + self._cut
                content = file.read(BLOCK)
        except FileNotFoundError:
            return b"", position
        return content, start + len(content)

    def start_of_tail(self, lines: int) -> int:
        """The position at which the last ``lines`` lines begin."""
        try:
            with self.path.open("rb") as file:
                return self._cut + _tail_offset(file.read(self._max * 2), lines)
        except FileNotFoundError:
            return self._cut

    def last_lines(self, count: int, *, width: int = 300) -> list[str]:
        """The last lines as text, each cut to ``width`` characters."""
        splitter = Splitter()
        found: deque[str] = deque(maxlen=count)
        position = self.start_of_tail(count)
        while True:
            content, position = self.read(position)
            if not content:
                break
            found.extend(splitter.feed(content))
        found.extend(splitter.rest())
        return [line[:width] for line in found]

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


async def stream(
    file: LogFile, *, over: Callable[[], bool], tail: int | None, since: datetime | None = None
) -> AsyncIterator[str]:
    """The last ``tail`` lines (None: all), none of them written before ``since``, and what is written after them,
    until ``over`` and nothing is left.
    """
    splitter = Splitter()
    position = 0 if tail is None else file.start_of_tail(tail)
    if since is not None:
        position = max(position, file.start_after(since.timestamp()))
    while True:
        last = over()  # asked before reading, so that what was written until then is read
        content, position = file.read(position)
        for text in splitter.feed(content):
            yield text
        if content:
            continue
        if last:
            break
        await asyncio.sleep(FOLLOW_INTERVAL)
    for text in splitter.rest():
        yield text


def _tail_offset(content: bytes, lines: int) -> int:
    if lines <= 0:
        return len(content)
    end = len(content) - 1 if content.endswith(b"\n") else len(content)
    for _ in range(lines):
        end = content.rfind(b"\n", 0, end)
        if end < 0:
            return 0
    return end + 1


class Splitter:
    """Bytes in, complete lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, content: bytes) -> list[str]:
        """The lines that are complete now; one longer than LINE_MAX is split."""
        *complete, self._rest = (self._rest + content).split(b"\n")
        while len(self._rest) > LINE_MAX:
            complete.append(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]
        return [_text(part) for line in complete for part in _pieces(line)]

    def rest(self) -> list[str]:
        """What is left without a line end, when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[n : n + LINE_MAX] for n in range(0, len(line), LINE_MAX)] or [b""]


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")

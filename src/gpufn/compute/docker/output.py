"""A container's output: the engine's frames made into lines, and the tail that is kept after it is gone.

Engines send each piece a container wrote as a frame: 8 bytes of header (stream, length), then, as we ask for it, a
time and the piece. A piece without a line end goes on in the next frame of the same stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from gpufn.compute.backend import ExecResult, LogLine
from gpufn.model.ids import InstanceId

LINE_MAX = 64 * 1024
"""Bytes of the longest line; longer ones are split (``backend.LogLine``)."""
KEPT_LINES = 10_000
KEPT_BYTES = 4 * 1024 * 1024
"""What is kept of an instance whose container is gone: its last lines, within both limits."""

_HEADER = 8
_FRAME_MAX = 1024 * 1024


def kept_file(data: Path, instance_id: InstanceId) -> Path:
    """Where the output of a container is kept. Not where processes write: after a restart both backends are asked for
    the log of an instance that has ended, and each must find only its own.
    """
    return data / "logs" / f"{instance_id}.container.log"


class Frames:
    """What a command wrote, its streams together: at most ``limit`` bytes, the rest is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes, self._written = limit, bytearray(), bytearray()
        self._left, self._dropped = 0, False

    def feed(self, data: bytes) -> None:
        """Take bytes of the engine's stream: headers of 8 bytes, each with the length of what follows."""
        self._bytes += data
        while self._bytes:
            if self._left == 0:
                if len(self._bytes) < _HEADER:
                    return
                self._left = int.from_bytes(self._bytes[4:_HEADER], "big")
                del self._bytes[:_HEADER]
            piece = self._bytes[: self._left]
            del self._bytes[: self._left]
            self._left -= len(piece)
            room = self._limit - len(self._written)
            self._dropped = self._dropped or len(piece) > room
            self._written += piece[:room]

    def result(self, code: int | None) -> ExecResult:
        """What there is, with the exit code."""
        return ExecResult(self._written.decode("utf-8", "replace"), code, truncated=self._dropped)


class Lines:
    """Takes bytes as they come, returns the lines that are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._open: dict[int, tuple[str, bytearray]] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        """The lines that ``data`` completes, in order. Raises ValueError for what is no stream of frames."""
        self._bytes += data
        while len(self._bytes) >= _HEADER:
            length = int.from_bytes(self._bytes[4:_HEADER], "big")
            if length > _FRAME_MAX:
                raise ValueError(f"a log frame of {length} bytes")
            if len(self._bytes) < _HEADER + length:
                return
            stream, frame = self._bytes[0], bytes(self._bytes[_HEADER : _HEADER + length])
            del self._bytes[: _HEADER + length]
            yield from self._frame(stream, frame)

    def end(self) -> Iterator[LogLine]:
        """Lines that never got their end."""
        for at, text in self._open.values():
            yield _line(at, bytes(text))
        self._open.clear()

    def _frame(self, stream: int, frame: bytes) -> Iterator[LogLine]:
        stamp, _, piece = frame.partition(b" ")
        at, text = self._open.pop(stream, (stamp.decode("ascii", "replace"), bytearray()))
        text += piece
        ended = text.endswith(b"\n")
        while len(text) > LINE_MAX + ended:
            yield _line(at, bytes(text[:LINE_MAX]))
            del text[:LINE_MAX]
        if ended:
            yield _line(at, bytes(text[:-1]))
        elif text:
            self._open[stream] = (at, text)


def _line(at: str, text: bytes) -> LogLine:
    return LogLine(text.removesuffix(b"\r").decode("utf-8", "replace"), _time(at))


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def is_after(line: LogLine, since: datetime | None) -> bool:
    """Whether the line is to be shown; one whose time is not known is."""
    return since is None or line.at is None or line.at >= since


def keep(path: Path, lines: Iterable[LogLine]) -> None:
    """Write the end of ``lines`` to ``path``, readable by us only. A blocking call, bounded by KEPT_BYTES."""
    kept: list[bytes] = []
    size = 0
    for line in reversed(list(lines)[-KEPT_LINES:]):
        stamp = line.at.isoformat() if line.at else "-"
        kept.append(f"{stamp} {line.text}\n".encode("utf-8", "replace"))
        size += len(kept[-1])
        if size > KEPT_BYTES:
            kept.pop()
            break
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(b"".join(reversed(kept)))
    fresh.replace(path)


def kept(path: Path) -> list[LogLine]:
    """What ``keep`` wrote to ``path``; nothing when there is no such file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for raw in content.split(b"\n")[:-1]:
        stamp, _, text = raw.partition(b" ")
        found.append(LogLine(text.decode("utf-8", "replace"), _time(stamp.decode("ascii", "replace"))))
    return found

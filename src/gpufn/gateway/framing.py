"""Where a message body ends: by length, by chunks, or with the connection. The same three for both directions.

A reader is fed what arrives and returns the body's own bytes; ``done`` says that the body is complete, and ``rest``
is then what follows it. Chunk sizes, extensions and trailers are limited, and trailers are dropped (they would need
``TE``, which is not passed on).
"""

from __future__ import annotations

import re
from typing import Protocol

from gpufn.gateway.http1 import BadMessage
from gpufn.gateway.lines import TOKEN, VALUE

LINE_MAX = 1024
"""Longest chunk-size line, extensions included, in bytes."""
TRAILER_MAX = 16 * 1024
"""Largest trailer section, in bytes."""
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;" + VALUE + rb"*)?")
FIELD = re.compile(TOKEN + rb"+:" + VALUE + rb"*")


class BodyReader(Protocol):
    """Takes what arrives and tells the body from what follows it."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes: ...


class Identity:
    """A body of known length."""

    __slots__ = ("_remaining", "done", "rest")

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            return data
        self._remaining = 0
        self.done = True
        if len(data) == remaining:
            return data
        self.rest = data[remaining:]
        return data[:remaining]


class UntilClose:
    """A response body that ends with its connection."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data


class Chunked:
    """A body in chunks. Raises BadMessage for anything that is not exactly that."""

    __slots__ = ("_buffer", "_in_trailer", "_remaining", "_trailer", "done", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._remaining = 0
        """Bytes of the current chunk still to come, its line end included."""
        self._in_trailer = False
        self._trailer = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        payload: list[bytes] = []
        position = 0
        while not self.done:
            if self._remaining:
                after = self._chunk(data, position, payload)
            elif self._in_trailer:
                after = self._trailer_line(data, position)
            else:
                after = self._size_line(data, position)
            if after == position:
                self._buffer = data[position:]
                break
            position = after
        else:
            self.rest = data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _chunk(self, data: bytes, position: int, payload: list[bytes]) -> int:
        """Take what is there of the chunk. Its line end is taken whole, when both bytes are there."""
        body = self._remaining - 2
        if body > 0:
            piece = data[position : position + body]
            if piece:
                payload.append(piece)
                self._remaining -= len(piece)
            return position + len(piece)
        end = data[position : position + 2]
        if end == b"\r\n":
            self._remaining = 0
            return position + 2
        if end not in (b"", b"\r"):
            raise BadMessage("a chunk is longer than its size says")
        return position

    def _size_line(self, data: bytes, position: int) -> int:
        line, after = _line(data, position)
        if line is None:
            return position
        match = SIZE.fullmatch(line)
        if match is None:
            raise BadMessage("a chunk size is not a hexadecimal number")
        size = int(match[1], 16)
        if size:
            self._remaining = size + 2
        else:
            self._in_trailer = True
        return after

    def _trailer_line(self, data: bytes, position: int) -> int:
        line, after = _line(data, position)
        if line is None:
            return position
        self._trailer += after - position
        if self._trailer > TRAILER_MAX:
            raise BadMessage("the trailer section is too large")
        if not line:
            self.done = True
        elif FIELD.fullmatch(line) is None:
            raise BadMessage("a trailer line is not a header field")
        return after


def _line(data: bytes, position: int) -> tuple[bytes | None, int]:
    """The next line without its end, and where the one after it begins; None while it is not complete."""
    end = data.find(b"\r\n", position)
    if end < 0:
        if len(data) - position > LINE_MAX:
            raise BadMessage("a line between chunks is too long")
        if b"\n" in data[position:]:
            raise BadMessage("a line between chunks ends without a carriage return")
        return None, position
    if end - position > LINE_MAX:
        raise BadMessage("a line between chunks is too long")
    return data[position:end], end + 2


def reader(length: int | None, chunked: bool) -> BodyReader:
    """The reader for a body framed like that; neither known nor chunked means until the connection closes."""
    if chunked:
        return Chunked()
    return UntilClose() if length is None else Identity(length)


def chunk(data: bytes, last: bool) -> bytes:
    """``data`` as one chunk, followed by the end of the body if ``last``."""
    if not data:
        return b"0\r\n\r\n" if last else b""
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"")

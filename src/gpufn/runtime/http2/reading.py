"""From bytes to events: frames are cut out, checked for themselves, header blocks put together and decompressed.

What a frame means for its stream and its connection is for the ``Handler``. ProtocolError leaves ``feed``.
"""

from __future__ import annotations

from typing import Protocol

from gpufn.runtime.http2 import frames
from gpufn.runtime.http2.fields import Decoder, Fields
from gpufn.runtime.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_MAX,
    HAS_PRIORITY,
    HEAD,
    PREFACE,
    WINDOW_MAX,
    Code,
    ProtocolError,
)

PARTS_MAX = 64
"""Most frames that one header block may come in."""


class Handler(Protocol):
    """What the frames are for."""

    def on_data(self, number: int, data: bytes, size: int, end: bool) -> None:
        """``size``: what the frame takes of the windows, its padding included."""
        ...

    def on_headers(self, number: int, fields: Fields, end: bool) -> None: ...
    def on_reset(self, number: int, code: int) -> None: ...
    def on_settings(self, values: list[tuple[int, int]]) -> None: ...
    def on_ping(self, payload: bytes) -> None: ...
    def on_goaway(self, last: int) -> None: ...
    def on_window(self, number: int, size: int) -> None: ...


class Reader:
    """Reads one side's bytes. ``preface``: whether they begin with the client's preface."""

    def __init__(self, handler: Handler, *, preface: bool, block_max: int) -> None:
        self._handler = handler
        self._decoder = Decoder(block_max)
        self._block_max = block_max
        self._buffer = b""
        self._preface = preface
        self._settled = False
        """Whether the first frame has come, which must be SETTINGS."""
        self._block: tuple[int, bool, list[bytes], int] | None = None

    @property
    def settled(self) -> bool:
        """Whether the other side has introduced itself."""
        return self._settled

    def feed(self, data: bytes) -> None:
        """Take what arrived. Raises ProtocolError."""
        data = self._buffer + data if self._buffer else data
        position = self._read_preface(data) if self._preface else 0
        size = len(data)
        while not self._preface and size - position >= HEAD.size:
            high, low, kind, flags, number = HEAD.unpack_from(data, position)
            length = high << 16 | low
            if length > FRAME_MAX:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame is larger than {FRAME_MAX} bytes")
            end = position + HEAD.size + length
            if end > size:
                break
            self._frame(kind, flags, number & WINDOW_MAX, data[position + HEAD.size : end])
            position = end
        self._buffer = data[position:] if position < size else b""

    def _read_preface(self, data: bytes) -> int:
        known = min(len(data), len(PREFACE))
        if data[:known] != PREFACE[:known]:
            raise ProtocolError(Code.PROTOCOL_ERROR, "not HTTP/2")
        if known < len(PREFACE):
            return 0
        self._preface = False
        return known

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block[0]):
            raise ProtocolError(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if not self._settled:
            if kind != frames.SETTINGS or flags & ACK:
                raise ProtocolError(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settled = True
        if kind == frames.DATA:
            data = frames.unpadded(flags, payload)
            self._handler.on_data(number, data, len(payload), bool(flags & END_STREAM))
        elif kind == frames.HEADERS:
            self._headers(flags, number, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        else:
            self._control(kind, flags, number, payload)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        block = frames.unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(block) < 5:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "a HEADERS frame is too short")
            block = block[5:]
        end = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._handler.on_headers(number, self._decoder.decode(block), end)
        else:
            self._block = number, end, [block], len(block)

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        number, end, parts, size = self._block
        size += len(payload)
        if size > self._block_max or len(parts) >= PARTS_MAX:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "the header block is too large")
        parts.append(payload)
        self._block = number, end, parts, size
        if flags & END_HEADERS:
            self._block = None
            self._handler.on_headers(number, self._decoder.decode(b"".join(parts)), end)

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Frames that carry nothing of a message. Unknown kinds mean nothing (section 4.1)."""
        match kind:
            case frames.RST_STREAM:
                self._handler.on_reset(number, frames.number(payload))
            case frames.WINDOW_UPDATE:
                self._handler.on_window(number, frames.number(payload) & WINDOW_MAX)
            case frames.PUSH_PROMISE:
                raise ProtocolError(Code.PROTOCOL_ERROR, "nobody asked for a push")
            case frames.SETTINGS | frames.PING | frames.GOAWAY:
                if number:
                    raise ProtocolError(Code.PROTOCOL_ERROR, "a frame for the connection names a stream")
                self._connection_frame(kind, flags, payload)
            case _:
                pass

    def _connection_frame(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == frames.GOAWAY:
            if len(payload) < 8:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")
            self._handler.on_goaway(frames.number(payload[:4]) & WINDOW_MAX)
        elif kind == frames.PING:
            if len(payload) != 8:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "PING has eight bytes")
            if not flags & ACK:
                self._handler.on_ping(payload)
        elif not flags & ACK:
            self._handler.on_settings(frames.pairs(payload))
        elif payload:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "an acknowledgement has no content")

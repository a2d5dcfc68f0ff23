"""HTTP/2 frames as bytes (RFC 9113, sections 4, 6 and 7). Pure."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    1, 2, 3, 4, 5, 6,
)  # fmt: skip
FRAME_MAX = 16_384
"""Largest payload anyone must take, and the largest we take."""
WINDOW_MAX = 2**31 - 1
DEFAULT_WINDOW = 65_535
HEAD = struct.Struct(">BHBBI")
"""High byte and low bytes of the length, type, flags, stream: nine bytes before each payload."""
PAIR = struct.Struct(">HI")
NUMBER = struct.Struct(">I")


class Code(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(Exception):
    """The other side broke the protocol: the connection ends with ``code``."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, *, end: bool) -> bytes:
    """``block`` in a HEADERS frame, and as many CONTINUATION frames as it needs."""
    flags = END_STREAM if end else 0
    if len(block) <= FRAME_MAX:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [frame(HEADERS, flags, stream, block[:FRAME_MAX])]
    for start in range(FRAME_MAX, len(block), FRAME_MAX):
        last = END_HEADERS if start + FRAME_MAX >= len(block) else 0
        parts.append(frame(CONTINUATION, last, stream, block[start : start + FRAME_MAX]))
    return b"".join(parts)


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(PAIR.pack(key, value) for key, value in values.items()))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(size))


def goaway(last: int, code: int, detail: str) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + detail.encode()[:200])


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload without its padding. Raises ProtocolError when there is more padding than payload."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(Code.PROTOCOL_ERROR, "a frame has more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def number(payload: bytes) -> int:
    """The payload of RST_STREAM or WINDOW_UPDATE. Raises ProtocolError."""
    if len(payload) != 4:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "a frame of four bytes has another size")
    return int(NUMBER.unpack(payload)[0])


def pairs(payload: bytes) -> list[tuple[int, int]]:
    """The payload of SETTINGS, checked (section 6.5.2). Raises ProtocolError."""
    if len(payload) % PAIR.size:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "SETTINGS is no list of pairs")
    found = [(int(key), int(value)) for key, value in PAIR.iter_unpack(payload)]
    for key, value in found:
        if key == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "the initial window is too large")
        if (key == ENABLE_PUSH and value > 1) or (key == MAX_FRAME_SIZE and not FRAME_MAX <= value < 1 << 24):
            raise ProtocolError(Code.PROTOCOL_ERROR, f"setting {key} cannot be {value}")
    return found

"""Header blocks: read with the ``hpack`` library, remembered, and written without compression state (RFC 7541).

Clients send the same few blocks again and again. A block that did not change the table of the compression means the
same until the table changes, so it is decoded once; what a reader makes of it is kept with it, in ``note``. What we
write are literals that use no table: nothing has to be kept in step, and a line can be encoded once and used anywhere.
"""

from __future__ import annotations

import hpack

from gpufn.runtime.http2.frames import Code, ProtocolError

MEMO_MAX = 256
MEMO_BLOCK_MAX = 2048
"""Longest block, in bytes, that is remembered."""
SIZE_UPDATE, SIZE_UPDATE_MASK = 0x20, 0xE0
STATUS = {b"200": b"\x88", b"204": b"\x89", b"206": b"\x8a", b"304": b"\x8b", b"400": b"\x8c", b"404": b"\x8d"}
METHOD = {b"GET": b"\x82", b"POST": b"\x83"}
SECRET = frozenset({b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"})
"""Written so that nobody further on puts them into a table either (RFC 7541, section 7.1.3)."""


class Fields:
    """A decoded header block; shared by all messages that came with the same bytes, so it must not be changed."""

    __slots__ = ("items", "note")

    def __init__(self, items: tuple[tuple[bytes, bytes], ...]) -> None:
        self.items = items
        self.note: object = None
        """Whatever the reader has worked out of it."""


class Decoder:
    """One direction of one connection. ``list_max``: largest header list, as section 6.5.2 of RFC 9113 counts it."""

    def __init__(self, list_max: int) -> None:
        self._hpack = hpack.Decoder(max_header_list_size=list_max)
        self._memo: dict[bytes, Fields] = {}

    def decode(self, block: bytes) -> Fields:
        """Raises ProtocolError."""
        known = self._memo.get(block)
        if known is not None:
            return known
        before = self._state()
        try:
            items = tuple((bytes(name), bytes(value)) for name, value in self._hpack.decode(block, raw=True))
        except hpack.OversizedHeaderListError as error:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "the header list is too large") from error
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError(Code.COMPRESSION_ERROR, "the header block cannot be decompressed") from error
        fields = Fields(items)
        after = self._state()
        if before[0] != after[0] or before[1] is not after[1]:
            self._memo.clear()
        elif block and block[0] & SIZE_UPDATE_MASK != SIZE_UPDATE and len(block) <= MEMO_BLOCK_MAX:
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[block] = fields
        return fields

    def _state(self) -> tuple[int, object]:
        """Tells whether the table was changed: every insertion makes a new first entry, or fewer."""
        entries = self._hpack.header_table.dynamic_entries
        return len(entries), entries[0] if entries else None


def line(name: bytes, value: bytes) -> bytes:
    """One header field as a literal; ``name`` in lower case."""
    return b"%c%b%b%b%b" % (0x10 if name in SECRET else 0, _size(len(name)), name, _size(len(value)), value)


def status(value: bytes) -> bytes:
    """``:status``."""
    return STATUS.get(value) or b"\x08" + _size(len(value)) + value


def request(method: bytes, scheme: bytes, authority: bytes, path: bytes) -> bytes:
    """The pseudo-header fields of a request; an empty authority is left out."""
    known = METHOD.get(method) or b"\x02" + _size(len(method)) + method
    host = b"\x01" + _size(len(authority)) + authority if authority else b""
    return b"%b%b%b\x04%b%b" % (known, b"\x87" if scheme == b"https" else b"\x86", host, _size(len(path)), path)


def _size(value: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, section 5.1), without Huffman coding."""
    if value < 127:
        return bytes((value,))
    value -= 127
    parts = bytearray((127,))
    while value >= 128:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)

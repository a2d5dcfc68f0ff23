"""The HTTP/2 engine: header blocks against the `hpack` package, frames whole and in pieces, anything for the reader."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hypothesis import given, strategies as st

from gpufn.runtime.http2 import fields, frames
from gpufn.runtime.http2.fields import Decoder, Fields
from gpufn.runtime.http2.frames import ProtocolError
from gpufn.runtime.http2.reading import Reader

NAMES = st.sampled_from([b"content-type", b"x-a", b"x-b", b"authorization", b"grpc-timeout"])
LISTS = st.lists(st.tuples(NAMES, st.binary(max_size=60)), max_size=8)


@given(blocks=st.lists(st.tuples(LISTS, st.sampled_from([None, 0, 64, 256, 4096]), st.booleans()), max_size=12))
def test_remembered_blocks_mean_the_same(blocks: list[tuple[list[tuple[bytes, bytes]], int | None, bool]]) -> None:
    """Whatever an encoder does to its table in between, each block decodes to what was encoded."""
    encoder, decoder = hpack.Encoder(), Decoder(65536)
    for items, size, huffman in blocks * 2:
        if size is not None:
            encoder.header_table_size = size
        assert list(decoder.decode(encoder.encode(items, huffman=huffman)).items) == items


@given(items=LISTS)
def test_lines_need_no_state(items: list[tuple[bytes, bytes]]) -> None:
    """What we write is read by anyone, in any order, and fills nobody's table."""
    decoder = hpack.Decoder()
    block = b"".join(fields.line(name, value) for name, value in items)
    assert [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)] == items
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16_383, 20_000])
def test_lengths_of_lines(size: int) -> None:
    """Integers of every width."""
    block = fields.line(b"x", b"v" * size)
    assert hpack.Decoder(max_header_list_size=10**6).decode(block, raw=True) == [(b"x", b"v" * size)]


def test_pseudo_header_fields() -> None:
    """Requests and statuses, with and without entries in the static table."""
    for method, scheme, code in ((b"POST", b"http", b"200"), (b"PATCH", b"https", b"418")):
        block = fields.request(method, scheme, b"host:1", b"/a.B/C") + fields.status(code)
        assert [(bytes(n), bytes(v)) for n, v in hpack.Decoder().decode(block, raw=True)] == [
            (b":method", method), (b":scheme", scheme), (b":authority", b"host:1"), (b":path", b"/a.B/C"),
            (b":status", code),
        ]  # fmt: skip
    assert b"authority" not in dict(hpack.Decoder().decode(fields.request(b"GET", b"http", b"", b"/")))


class Events:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.found: list[tuple[object, ...]] = []

    def on_data(self, number: int, data: bytes, size: int, end: bool) -> None:
        self.found.append(("data", number, data, size, end))

    def on_headers(self, number: int, fields: Fields, end: bool) -> None:
        self.found.append(("headers", number, fields.items, end))

    def on_reset(self, number: int, code: int) -> None:
        self.found.append(("reset", number, code))

    def on_settings(self, values: list[tuple[int, int]]) -> None:
        self.found.append(("settings", values))

    def on_ping(self, payload: bytes) -> None:
        self.found.append(("ping", payload))

    def on_goaway(self, last: int) -> None:
        self.found.append(("goaway", last))

    def on_window(self, number: int, size: int) -> None:
        self.found.append(("window", number, size))


def test_long_blocks_are_continued() -> None:
    """A block of any size arrives as one, in frames nobody refuses."""
    items = [(b"x-%d" % number, b"v" * 1000) for number in range(50)]
    block = b"".join(fields.line(name, value) for name, value in items)
    events = Events()
    reader = Reader(events, preface=False, block_max=10**6)
    reader.feed(frames.settings({}) + frames.header_frames(7, block, end=True))
    assert events.found == [("settings", []), ("headers", 7, tuple(items), True)]


@given(payload=st.binary(max_size=300), cuts=st.lists(st.integers(1, 40), max_size=30))
def test_pieces_do_not_matter(payload: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, the events are the same."""
    raw = frames.PREFACE + frames.settings({4: 70_000}) + frames.frame(0, 1, 1, payload) + frames.window_update(0, 9)
    events = Events()
    reader = Reader(events, preface=True, block_max=1000)
    position = 0
    for cut in [*cuts, len(raw)]:
        reader.feed(raw[position : position + cut])
        position += cut
    assert events.found == [
        ("settings", [(4, 70_000)]), ("data", 1, payload, len(payload), True), ("window", 0, 9)
    ]  # fmt: skip


FRAMES = st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))


@given(sent=st.lists(FRAMES, max_size=20), tail=st.binary(max_size=50))
def test_anything_is_understood_or_refused(sent: list[tuple[int, int, int, bytes]], tail: bytes) -> None:
    """No input raises anything but ProtocolError."""
    reader = Reader(Events(), preface=False, block_max=1000)
    with contextlib.suppress(ProtocolError):
        reader.feed(frames.settings({}) + b"".join(frames.frame(*each) for each in sent) + tail)

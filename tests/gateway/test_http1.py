"""Heads and bodies: what is accepted means the same to h11, and nothing crashes."""

from __future__ import annotations

import contextlib
import random

import h11
import pytest
from hypothesis import given, settings, strategies as st

from gpufn.gateway.framing import Chunked, chunk
from gpufn.gateway.http1 import BadMessage, head_end, parse_request, parse_response

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: x:80\r\nContent-Length: 5\r\nA: b\r\n\r\nhelloGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\nGET /",
    b"PUT http://x/y HTTP/1.1\r\nHost: x\r\nConnection: close, te\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
ALPHABET = b"\r\n\t :;,\x00\x7f\x80\xffaZ09/*-=.[]chunked"


def ours(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(method, body, what follows) of the first message as we read it; None when it is refused or not complete."""
    try:
        end = head_end(data, 65536)
        if end < 0:
            return None
        head = parse_request(data[:end], 128)
        rest = data[end:]
        if not head.chunked:
            return (head.method, rest[: head.length], rest[head.length :]) if len(rest) >= head.length else None
        reader = Chunked()
        body = reader.feed(rest)
        return (head.method, body, reader.rest) if reader.done else None
    except BadMessage:
        return None


def theirs(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The same as h11 reads it. Raises RemoteProtocolError where h11 refuses."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    return request.method, body, connection.trailing_data[0]


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """``seed`` with a few bytes inserted, removed or replaced."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.choice(ALPHABET)
            case 1:
                del data[at]
            case _:
                data.insert(at, rng.choice(ALPHABET))
    return bytes(data)


def agree(seed: int, mutations: int) -> int:
    """Compare so many mutated requests with h11; how many of them we accepted."""
    rng = random.Random(seed)
    accepted = 0
    for number in range(mutations):
        data = mutated(SEEDS[number % len(SEEDS)], rng)
        mine = ours(data)
        if mine is not None:
            accepted += 1
            assert mine == theirs(data), data
    return accepted


def test_what_is_accepted_means_the_same_to_h11() -> None:
    """Of thousands of mutated requests, each that we accept ends where h11 says it ends, with the same body."""
    assert agree(20261124, 6000) > 500


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_a_million_mutations() -> None:
    """The same over 500,000 mutated requests, others in every run: no crash, no disagreement on where one ends."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)  # shown when it fails
    assert agree(seed, 500_000) > 50_000


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Arbitrary bytes never raise anything but BadMessage, as request, response or chunks."""
    ours(data + b"\r\n\r\n")
    for parse in (lambda: parse_response(data + b"\r\n\r\n", 128), lambda: Chunked().feed(data)):
        with contextlib.suppress(BadMessage):
            parse()


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_chunks_survive_any_split(pieces: list[bytes], rng: random.Random) -> None:
    """A chunked body reads the same however it is cut up on the way, and what follows it is left alone."""
    wire = b"".join(chunk(piece, False) for piece in pieces) + chunk(b"", True) + b"NEXT"
    reader, body, rest = Chunked(), b"", wire
    while not reader.done:
        size = rng.randint(1, 20)
        body += reader.feed(rest[:size])
        rest = rest[size:]
    assert body == b"".join(pieces)
    assert reader.rest + rest == b"NEXT"


@pytest.mark.parametrize(
    "raw",
    [b"5 \r\nhello\r\n", b"0x5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhelloX", b"1" * 16 + b"\r\n", b"1;" + b"e" * 2000,
     b"0\r\nbad trailer\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 4000, b"-1\r\n", b"\r\n"],
)  # fmt: skip
def test_malformed_chunks_are_refused(raw: bytes) -> None:
    """Sizes, line ends, extensions and trailers are exact and bounded."""
    with pytest.raises(BadMessage):
        Chunked().feed(raw)


def test_fields_named_by_connection_are_known() -> None:
    """The names in Connection are for this hop, close and keep-alive are decisions."""
    head = parse_request(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-A\r\nConnection: x-b\r\n\r\n", 128)
    assert (head.keep_alive, head.named) == (False, frozenset({b"x-a", b"x-b"}))


def test_responses_may_have_odd_reasons() -> None:
    """A response without a reason, or with one outside ASCII, is read."""
    assert parse_response(b"HTTP/1.1 200\r\n\r\n", 128).reason == b""
    assert parse_response(b"HTTP/1.1 599 \xfcber\r\nA: \xff\r\n\r\n", 128).status == 599

"""Heads on the gRPC port: what is read from them, what is passed on, what is refused."""

from __future__ import annotations

import hpack
import pytest
from gateway_world import F, V
from hypothesis import given, strategies as st

from gpufn.gateway.grpc_head import Malformed, answer_head, call_head, remaining, trailers
from gpufn.runtime.http2.fields import Fields

REQUEST = {b":method": b"POST", b":scheme": b"http", b":path": b"/a.B/C", b":authority": b"x"}


def a_request(*lines: tuple[bytes, bytes], **pseudo: bytes) -> Fields:
    given = REQUEST | {f":{name}".encode(): value for name, value in pseudo.items()}
    return Fields((*((k, v) for k, v in given.items() if v), *lines))


def passed(block: bytes) -> dict[bytes, bytes]:
    return {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block, raw=True)}


def test_what_the_platform_sets_is_not_passed_on() -> None:
    """The client's own nvcf fields and its deadline are left out; its credential and metadata go on, as in NVCF."""
    lines = (
        (b"authorization", b"Bearer k"), (b"function-id", F.encode()), (b"nvcf-sub", b"evil"), (b"nvcf-reqid", b"evil"),
        (b"grpc-timeout", b"5S"), (b"te", b"trailers"), (b"x-bin", b"AAE"), (b"host", b"x"),
    )  # fmt: skip
    head = call_head(a_request(*lines))
    kept = {b"authorization": b"Bearer k", b"function-id": F.encode(), b"te": b"trailers", b"x-bin": b"AAE"}
    assert passed(head.passed) == REQUEST | kept
    assert (head.function_id, head.timeout, head.resume) == (F.encode(), 5.0, None)


def test_a_head_is_worked_out_once() -> None:
    """The same block gives the same object."""
    fields = a_request()
    assert call_head(fields) is call_head(fields)


@pytest.mark.parametrize(
    ("lines", "resume"),
    [
        (((b"nvcf-reqid", V.encode()), (b"cookie", b"nvcf-request-id=" + F.encode())), V.encode()),
        (((b"cookie", b"nvcf-request-id=" + F.encode()),), F.encode()),
        (((b"cookie", b"a=1"), (b"cookie", b"b=2; nvcf-request-id=" + F.encode())), F.encode()),
        (((b"nvcf-reqid", b"no-uuid"), (b"cookie", b"xnvcf-request-id=" + F.encode())), None),
    ],
)
def test_sessions_by_header_then_cookie(lines: tuple[tuple[bytes, bytes], ...], resume: bytes | None) -> None:
    """The header wins; what is no UUID is ignored."""
    assert call_head(a_request(*lines)).resume == resume


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto", b"application/grpc;x=y"])
def test_grpc_is_told_by_the_content_type(kind: bytes) -> None:
    """With or without a suffix; gRPC-Web is plain HTTP."""
    assert call_head(a_request((b"content-type", kind))).is_grpc
    assert not call_head(a_request((b"content-type", b"application/grpc-web"))).is_grpc


BROKEN = [
    a_request(path=b""), a_request(path=b"x"), a_request(path=b"/ x"), a_request(method=b""),
    a_request(method=b"CONNECT"),
    a_request(scheme=b"ftp"), a_request(authority=b"a b"), a_request((b"X", b"1")), a_request((b"a b", b"1")),
    a_request((b"x", b"a\rb")), a_request((b"x", b" a")), a_request((b"upgrade", b"x")), a_request((b"te", b"gzip")),
    a_request((b":path", b"/x")), a_request((b":status", b"200")), a_request((b"host", b"other")),
    a_request((b"function-id", b"a"), (b"function-id", b"b")),
    a_request((b"authorization", b"a"), (b"authorization", b"b")),
]  # fmt: skip


@pytest.mark.parametrize("fields", BROKEN)
def test_malformed_heads(fields: Fields) -> None:
    """What is not valid HTTP/2, and what could be read in two ways."""
    with pytest.raises(Malformed):
        call_head(fields)


@pytest.mark.parametrize(
    "items", [(), ((b":status", b"20"),), ((b":status", b"abc"),), ((b"x", b"1"), (b":status", b"200"))]
)
def test_malformed_answers(items: tuple[tuple[bytes, bytes], ...]) -> None:
    """An instance is held to the same."""
    with pytest.raises(Malformed):
        answer_head(Fields(items))


def test_trailers_have_no_pseudo_header_fields() -> None:
    """And pass as they are."""
    assert passed(trailers(Fields(((b"grpc-status", b"0"),))).passed) == {b"grpc-status": b"0"}
    with pytest.raises(Malformed):
        trailers(Fields(((b":status", b"200"),)))


@given(seconds=st.floats(-10, 10**9))
def test_remaining_time_is_a_grpc_timeout(seconds: float) -> None:
    """At most eight digits, never zero, never more than there is, but for the smallest unit."""
    text = remaining(seconds)
    assert 1 <= len(text[:-1]) <= 8
    value = int(text[:-1]) * (1e-3 if text.endswith(b"m") else 1.0)
    assert 0 < value <= max(seconds, 1e-3) * (1 + 1e-9)  # 1900 * 1e-3 is a little more than 1.9

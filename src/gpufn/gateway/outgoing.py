"""The request head that an instance gets (invocation-plane page, sections 5.2 and 10.2). Pure."""

from __future__ import annotations

from typing import NamedTuple

from gpufn.gateway.fields import HOP_BY_HOP, OWNED
from gpufn.gateway.http1 import RequestHead, end_to_end

OPT_OUT = b"nvcf-feature-disable-worker-compatibility"
DROP = HOP_BY_HOP | OWNED | {b"authorization", b"host", b"content-length", b"expect", b"gpufn-invocation-id"}
DIRECT_DROP = DROP | {OPT_OUT}


class Told(NamedTuple):
    """What an instance is told of one call."""

    request_id: bytes
    caller: bytes
    """Header lines that name the caller, with their ends."""
    shared: bytes
    """The platform's directory as the instance sees it: ``/var/inf`` in a container."""
    seconds_left: int
    """Of the caller's window; may be 0 or negative."""


def pexec(request: RequestHead, opening: bytes, told: Told) -> bytes:
    """For a call by path: ``opening`` is the request line and what is the same for every call of this instance."""
    return _head(request, opening, told, drop=DROP, extra=b"")


def direct(request: RequestHead, common: bytes, told: Told) -> bytes:
    """For a direct call: its own method and target, then ``common``."""
    opening = b"%b %b%b" % (request.method, request.target, common)
    extra = b"nvcf-feature-disable-worker-compatibility: true\r\n"
    return _head(request, opening, told, drop=DIRECT_DROP, extra=extra)


def _head(request: RequestHead, opening: bytes, told: Told, *, drop: frozenset[bytes], extra: bytes) -> bytes:
    identity, caller, shared, seconds_left = told
    if b"content-type" not in request.values:
        extra += b"Content-Type: application/json\r\n"
    if request.chunked:
        extra += b"Transfer-Encoding: chunked\r\n"
    elif request.length or b"content-length" in request.values:
        extra += b"Content-Length: %d\r\n" % request.length
    lines = end_to_end(request, drop)
    lines.append(b"\r\n")
    return (
        b"%b%bNVCF-REQID: %b\r\nNVCF-ASSET-DIR: %b/inputAssets/%b\r\nNVCF-LARGE-OUTPUT-DIR: %b/response/%b\r\n"
        b"nvcf-poll-seconds: %d\r\n%b%b"
    ) % (opening, caller, identity, shared, identity, shared, identity, seconds_left, extra, b"\r\n".join(lines))

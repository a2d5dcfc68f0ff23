"""The request as the instance gets it: what the caller sent, without what is not for the instance, and our own lines.

Facts: invocation-plane page, sections 5.2 (what is stripped) and 10.2 (what is added).
"""

from __future__ import annotations

from gpufn.gateway.fields import HOP_BY_HOP, OWNED
from gpufn.gateway.http1 import RequestHead, end_to_end
from gpufn.gateway.slots import Slot

OPT_OUT = b"nvcf-feature-disable-worker-compatibility"
REQUEST_DROP = HOP_BY_HOP | OWNED | {b"authorization", b"host", b"content-length", b"expect", b"gpufn-invocation-id"}
DIRECT_DROP = REQUEST_DROP | {OPT_OUT}
JSON_TYPE = b"Content-Type: application/json\r\n"


def callers_lines(caller: bytes, request: RequestHead, *, direct: bool) -> bytes:
    """The header lines that depend on the caller and its request alone; an accepted invocation keeps them.

    ``caller`` are the lines that say who calls.
    """
    extra = b"nvcf-feature-disable-worker-compatibility: true\r\n" if direct else b""
    if b"content-type" not in request.values:
        extra += JSON_TYPE
    lines = end_to_end(request, DIRECT_DROP if direct else REQUEST_DROP)
    lines.append(b"")
    return b"%b%b%b" % (caller, extra, b"\r\n".join(lines))


def framing(request: RequestHead) -> bytes:
    """The line that says where the body ends."""
    if request.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    if request.length or b"content-length" in request.values:
        return b"Content-Length: %d\r\n" % request.length
    return b""


def outgoing(opening: bytes, kept: bytes, body: bytes, *, identity: bytes, slot: Slot, seconds: float) -> bytes:
    """The whole request head. ``opening`` is the request line with the lines of the instance, ``kept`` are
    ``callers_lines``, ``body`` is ``framing``, ``seconds`` is what is left of the caller's window.
    """
    shared = slot.instance.shared_dir
    return (
        b"%b%bNVCF-REQID: %b\r\nNVCF-ASSET-DIR: %b/inputAssets/%b\r\nNVCF-LARGE-OUTPUT-DIR: %b/response/%b\r\n"
        b"nvcf-poll-seconds: %d\r\n%b\r\n"
    ) % (opening, kept, identity, shared, identity, shared, identity, seconds, body)

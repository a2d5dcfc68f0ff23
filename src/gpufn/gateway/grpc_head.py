"""HTTP/2 message heads on the gRPC port: what is asked for, and what is passed on. Pure (RFC 9113, section 8).

A head is worked out once per header block and kept with it: the next call that sends the same bytes costs nothing. What
must not be in an HTTP/2 message is refused, so that nothing ambiguous reaches an instance.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gpufn.gateway.fields import OWNED
from gpufn.gateway.http1 import HOST, HOST_MAX
from gpufn.gateway.route import is_uuid
from gpufn.runtime.http2.fields import Fields, line, request, status

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
PATH = re.compile(rb"/[\x21-\x7e]*|\*")
TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT_MAX = 10.0**8
CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""What a message on HTTP/2 must not have (section 8.2.2)."""
PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
ONCE = frozenset({b"authorization", b"function-id", b"function-version-id", b"nvcf-reqid", b"grpc-timeout", b"host"})
NOT_PASSED = OWNED | {b"host", b"grpc-timeout"}
COOKIE = re.compile(rb"(?:^|;) *nvcf-request-id=([^;]*)")


class Malformed(Exception):
    """The message is not valid HTTP/2; its stream is reset."""


class CallHead(NamedTuple):
    """A request head of the gRPC port (invocation-plane page, section 13.1)."""

    method: bytes
    authorization: bytes | None
    function_id: bytes | None
    version_id: bytes | None
    resume: bytes | None
    """The session that the client wants to go on with; None unless it is a UUID."""
    is_grpc: bool
    timeout: float | None
    """Seconds the client gives the call."""
    timeout_text: bytes
    origin: bytes | None
    preflight: bool
    passed: bytes
    """Header block for the instance: everything but what the platform sets for each call."""


class AnswerHead(NamedTuple):
    """A response head: ``status`` as three digits, and the block to pass on."""

    status: bytes
    passed: bytes


class Trailers(NamedTuple):
    """The block to pass on."""

    passed: bytes


def call_head(fields: Fields) -> CallHead:
    """What the client asks for. Raises Malformed."""
    if isinstance(fields.note, CallHead):
        return fields.note
    pseudo, values = _pseudo(fields, PSEUDO), _single(fields)
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    scheme, authority = pseudo.get(b":scheme", b""), pseudo.get(b":authority") or values.get(b"host", b"")
    if METHOD.fullmatch(method) is None or method == b"CONNECT" or PATH.fullmatch(path) is None:
        raise Malformed("method or path")
    if scheme not in (b"http", b"https") or values.get(b"host", authority) != authority:
        raise Malformed("scheme or host")
    if authority and (len(authority) > HOST_MAX or HOST.fullmatch(authority) is None):
        raise Malformed("authority")
    if values.get(b"te", b"trailers") != b"trailers":
        raise Malformed("te")
    lines = [line(name, value) for name, value in fields.items if name[:1] != b":" and name not in NOT_PASSED]
    timeout = values.get(b"grpc-timeout", b"")
    kind = values.get(b"content-type", b"").lower()
    head = fields.note = CallHead(
        method=method,
        authorization=values.get(b"authorization"),
        function_id=values.get(b"function-id"),
        version_id=values.get(b"function-version-id"),
        resume=_resume(fields, values),
        is_grpc=kind == b"application/grpc" or kind.startswith((b"application/grpc+", b"application/grpc;")),
        timeout=_timeout(timeout),
        timeout_text=timeout,
        origin=values.get(b"origin"),
        preflight=method == b"OPTIONS" and b"access-control-request-method" in values,
        passed=request(method, scheme, authority, path) + b"".join(lines),
    )
    return head


def answer_head(fields: Fields) -> AnswerHead:
    """What the instance answers. Raises Malformed."""
    if isinstance(fields.note, AnswerHead):
        return fields.note
    code = _pseudo(fields, frozenset({b":status"})).get(b":status", b"")
    if len(code) != 3 or not code.isdigit():
        raise Malformed("status")
    lines = (line(n, v) for n, v in fields.items if n[:1] != b":" and n != b"nvcf-reqid")
    head = fields.note = AnswerHead(code, status(code) + b"".join(lines))
    return head


def trailers(fields: Fields) -> Trailers:
    """What comes after a body. Raises Malformed."""
    if isinstance(fields.note, Trailers):
        return fields.note
    _pseudo(fields, frozenset())
    found = fields.note = Trailers(b"".join(line(name, value) for name, value in fields.items))
    return found


def remaining(seconds: float) -> bytes:
    """``grpc-timeout`` for what is left of a deadline."""
    milliseconds = max(int(seconds * 1000), 1)
    return b"%dm" % milliseconds if milliseconds < TIMEOUT_MAX else b"%dS" % min(int(seconds), 99_999_999)


def _pseudo(fields: Fields, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo-header fields: each once, before all others; the others are checked on the way."""
    found: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields.items:
        if VALUE.fullmatch(value) is None:
            raise Malformed("value")
        if name[:1] == b":":
            if regular or name in found or name not in allowed:
                raise Malformed("pseudo-header fields")
            found[name] = value
            continue
        regular = True
        if NAME.fullmatch(name) is None or name in CONNECTION_SPECIFIC:
            raise Malformed("name")
    return found


def _single(fields: Fields) -> dict[bytes, bytes]:
    """The values of regular fields; of those that decide something there may be one only."""
    values: dict[bytes, bytes] = {}
    for name, value in fields.items:
        if name in values and name in ONCE:
            raise Malformed("a field that may come once")
        values[name] = value
    return values


def _timeout(text: bytes) -> float | None:
    match = TIMEOUT.fullmatch(text)
    return int(match[1]) * UNITS[match[2]] if match else None


def _resume(fields: Fields, values: dict[bytes, bytes]) -> bytes | None:
    """Header, then cookie; what is no UUID is ignored (section 13.1)."""
    wanted = values.get(b"nvcf-reqid")
    if wanted is not None and is_uuid(wanted):
        return wanted.lower()
    for name, value in fields.items:
        match = COOKIE.search(value) if name == b"cookie" else None
        if match and is_uuid(match[1]):
            return match[1].lower()
    return None

"""The gRPC port's own answers: statuses and texts (invocation-plane page, section 13.3). Pure."""

from __future__ import annotations

import json
from urllib.parse import quote

from gpufn.gateway.grpc_head import CallHead
from gpufn.gateway.problems import PROBLEM, Refused, Reply, text
from gpufn.runtime.http2.fields import line, status
from gpufn.runtime.http2.stream import Stream

CODES = {400: 3, 401: 16, 402: 7, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}
UNKNOWN = 2
MESSAGE_MAX = 1024
"""Longest ``grpc-message``, in characters before encoding."""
GRPC = status(b"200") + line(b"content-type", b"application/grpc")
FORGET = b"nvcf-request-id=; Max-Age=-1"
METHODS = b"HEAD, GET, POST, PUT, PATCH, DELETE"

NO_AUTHORIZATION = text(401, "no authorization was passed in the metadata")
NO_FUNCTION = text(400, "no function-id was passed in the metadata")


def words(reply: Reply) -> str:
    """What ``reply`` says, without its form."""
    if PROBLEM not in reply.lines:
        return reply.body.decode(errors="replace")
    document = json.loads(reply.body)
    return str(document.get("detail") or document.get("title", ""))


def denied(refused: Refused) -> Reply:
    """A refusal by those who know keys and functions, in the reference's words."""
    reply = refused.reply
    if reply.status == 429:
        return text(429, words(reply))
    return text(reply.status, f"failed to open stateful work request: {words(reply)}")


def refuse(stream: Stream, head: CallHead, reply: Reply, *extra: bytes) -> None:
    """Answer with ``reply`` as gRPC or as plain HTTP, whichever was spoken. ``extra``: encoded header lines."""
    if head.is_grpc:
        stream.send_headers(GRPC + outcome(reply) + b"".join(extra), True)
        return
    body = words(reply).encode()
    lines = [status(b"%d" % reply.status), line(b"content-type", b"text/plain; charset=utf-8"), *cors(head), *extra]
    lines.append(line(b"content-length", b"%d" % len(body)))
    stream.send_headers(b"".join(lines), not body)
    if body:
        stream.send(body, True)


def outcome(reply: Reply) -> bytes:
    """``grpc-status`` and ``grpc-message``."""
    message = quote(words(reply)[:MESSAGE_MAX], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    code = CODES.get(reply.status, UNKNOWN)
    return line(b"grpc-status", b"%d" % code) + line(b"grpc-message", message)


def cors(head: CallHead) -> list[bytes]:
    """The mirrored origin, on answers made here (section 13.4)."""
    if head.origin is None:
        return []
    return [
        line(b"access-control-allow-origin", head.origin),
        line(b"access-control-allow-credentials", b"true"),
        line(b"vary", b"origin"),
    ]


def preflight(stream: Stream, head: CallHead) -> None:
    """Everything is allowed (section 13.4)."""
    lines = [
        status(b"200"),
        *cors(head),
        line(b"access-control-allow-methods", METHODS),
        line(b"access-control-allow-headers", b"*"),
        line(b"access-control-max-age", b"3600"),
    ]
    stream.send_headers(b"".join(lines), True)

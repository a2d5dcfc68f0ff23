"""The gateway's own answers: bodies, statuses and the exact words clients match on (invocation-plane page, section 6).

Problems made here have no ``type`` member; those made on behalf of the instance have one that names the origin.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from gpufn.gateway.http1 import BadMessage

PROBLEM = b"content-type: application/problem+json"
TEXT = b"content-type: text/plain; charset=utf-8"
JSON = b"content-type: application/json"
EXPOSE = b"access-control-expose-headers: nvcf-reqid"
REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}
ASSETS_FAILED = "Internal error while downloading assets"
ERROR_BODY_MAX = 1024 * 1024
"""Bytes of an instance's error body that are read to find its message."""


@dataclass(frozen=True)
class Reply:
    """A whole answer made here."""

    status: int
    lines: tuple[bytes, ...]
    body: bytes = b""


class Refused(Exception):
    """The request is answered with ``reply`` and goes no further."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def title(status: int) -> str:
    return REASONS.get(status, b"").decode()


def problem(status: int, detail: str | None = None, *lines: bytes) -> Reply:
    """A problem of the invocation plane: no ``type``."""
    body: dict[str, object] = {"status": status, "title": title(status)}
    if detail is not None:
        body["detail"] = detail
    return Reply(status, (PROBLEM, *lines), json.dumps(body).encode())


def text(status: int, body: str) -> Reply:
    return Reply(status, (TEXT,), body.encode())


def document(body: dict[str, object]) -> Reply:
    return Reply(200, (JSON,), json.dumps(body).encode())


def not_a_message(error: BadMessage) -> Reply:
    """The answer to bytes that were not an acceptable request."""
    return problem(error.status, error.detail)


def method_not_allowed(allow: bytes) -> Reply:
    return Reply(405, (b"allow: " + allow,))


def queue_full(depth: int) -> Reply:
    detail = f"maximum messages exceeded: {depth} requests wait for this version; retry later or add instances"
    return problem(429, detail, b"retry-after: 1")


def outcome(status: int) -> bytes:
    """``nvcf-status`` for an HTTP status (section 5.3)."""
    if status == 202:
        return b"in-progress"
    return b"fulfilled" if 200 <= status < 400 else b"errored"


_STATUS_LINES = tuple(b"nvcf-status: " + outcome(status) for status in range(600))
"""By HTTP status."""


def trio(request_id: bytes, status: int) -> tuple[bytes, bytes, bytes]:
    """The header lines every response carries once the request was accepted (section 5.3)."""
    return b"nvcf-reqid: " + request_id, _STATUS_LINES[min(status, 599)], EXPOSE


def worker_problem(origin: str, status: int, detail: str) -> Reply:
    """A problem found where the instance is called; ``origin`` is the URN's source (section 6.1)."""
    kind = title(status)
    body = {
        "type": f"urn:{origin}:problem-details:{kind.lower().replace(' ', '-')}",
        "title": kind,
        "status": status,
        "detail": detail,
    }
    return Reply(status, (PROBLEM,), json.dumps(body).encode())


def connection_error() -> Reply:
    """The instance could not be reached, or broke off before it answered."""
    return worker_problem("inference-connection", 500, "Inference connection error while making inference request")


def call_failed(reason: str) -> Reply:
    """An instance gave no answer, for ``reason``."""
    if reason == ASSETS_FAILED:
        return worker_problem("nvcf-worker-service", 500, ASSETS_FAILED)
    return connection_error()


def inference_error(status: int, body: bytes) -> Reply:
    """An instance's error as compatibility mode shows it: its JSON ``error`` string, or ``Inference error``."""
    detail = "Inference error"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        detail = document["error"]
    return worker_problem("inference-service", status, detail)

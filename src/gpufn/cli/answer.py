"""Printing what a function answered, and telling its errors from the platform's."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session
from gpufn.client.errors import refusal
from gpufn.client.http import Answer
from gpufn.client.reference import Version
from gpufn.runtime.clock import monotonic

FUNCTION_ORIGINS = ("urn:inference-service:", "urn:inference-connection:")
"""Problems about what the instance did (invocation-plane page, section 6.1)."""


@dataclass(frozen=True)
class Outcome:
    """The call that is answered. ``direct``: errors are the function's own words."""

    request_id: str
    version: Version
    direct: bool
    began: float


def show(session: Session, outcome: Outcome, answer: Answer) -> int:
    """Print the answer; raises for one that is an error."""
    if answer.status >= 400:
        return _failed(session, outcome, answer)
    if session.args.json:
        session.console.json(_document(outcome, answer, answer.read()))
    elif _is(answer, "text/event-stream"):
        for chunk in answer.chunks():
            session.console.raw(chunk)
    elif session.console.tty:
        session.console.raw(_pretty(answer, answer.read()))
    else:
        for chunk in answer.chunks():
            session.console.raw(chunk)
    if 300 <= answer.status < 400:
        session.console.note(f"the function answered {answer.status}: {answer.header('location')}")
    return Exit.OK


def _failed(session: Session, outcome: Outcome, answer: Answer) -> int:
    """An error: of the function (exit 1), or of the platform, which has codes of its own."""
    body = answer.read()
    error = refusal(answer.status, answer.reason, body)
    problem = _is(answer, "application/problem+json")
    by_platform = problem and not error.origin.startswith(FUNCTION_ORIGINS)
    if by_platform or not answer.header("nvcf-reqid") or answer.status == 504:
        raise error
    if session.args.json:
        session.console.json(_document(outcome, answer, body))
    elif outcome.direct:
        session.console.raw(_pretty(answer, body) if session.console.tty else body)
    name = outcome.version["name"]
    raise Failed(f"{name} answered {answer.status}: {error.cause}", fix=f"read `gpufn logs {name}`")


def _document(outcome: Outcome, answer: Answer, body: bytes) -> dict[str, object]:
    """What --json prints: the answer and where it comes from."""
    return {
        "requestId": answer.header("nvcf-reqid") or outcome.request_id,
        "functionId": outcome.version["id"],
        "statusCode": answer.status,
        "status": answer.header("nvcf-status"),
        "contentType": answer.header("content-type"),
        "seconds": round(monotonic() - outcome.began, 3),
        **_response(body),
    }


def _response(body: bytes) -> dict[str, object]:
    try:
        return {"response": json.loads(body)}
    except (ValueError, RecursionError):
        pass
    try:
        return {"response": body.decode()}
    except UnicodeDecodeError:
        return {"responseBase64": base64.b64encode(body).decode()}


def _pretty(answer: Answer, body: bytes) -> bytes:
    """JSON as people read it; anything else as it is."""
    if _is(answer, "application/json"):
        try:
            return (json.dumps(json.loads(body), indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        except (ValueError, RecursionError):
            pass
    return body if body.endswith(b"\n") or not body else body + b"\n"


def _is(answer: Answer, media_type: str) -> bool:
    return answer.header("content-type").partition(";")[0].strip().lower() == media_type

"""The one mapping from what went wrong to ``application/problem+json`` (control-plane page, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from gpufn.model.errors import Code, PlatformError

MEDIA_TYPE = "application/problem+json"
SHOWN_ERRORS = 20
SHOWN_CHARS = 256

_STATUS: Mapping[Code, tuple[int, str]] = {
    Code.INVALID: (400, "bad-request"),
    Code.UNAUTHENTICATED: (401, "unauthorized"),
    Code.FORBIDDEN: (403, "forbidden"),
    Code.NOT_FOUND: (404, "not-found"),
    Code.CONFLICT: (409, "conflict"),
    Code.EXHAUSTED: (429, "too-many-requests"),
    Code.UNAVAILABLE: (503, "unavailable"),
    Code.TIMEOUT: (504, "timeout"),
}
_FRAMEWORK = "about:blank"
ORIGINAL_PATH = "gpufn.path"
"""Where the front keeps the path that the client sent, when it rewrites it."""


def problem(
    scope: Scope, status: int, detail: str, *, kind: str = _FRAMEWORK, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for one refusal."""
    title = HTTPStatus(status).phrase
    body = {
        "type": kind if kind == _FRAMEWORK else f"urn:nv-boot:problem-details:{kind}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "instance": scope.get(ORIGINAL_PATH, scope["path"]),
    }
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(scope: Scope, error: PlatformError) -> Response:
    """The response for a deliberate refusal. A field ``challenge`` becomes WWW-Authenticate, ``status`` is exact."""
    _, kind = _STATUS[error.code]
    headers = {}
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = str(error.fields.get("challenge", "Bearer"))
    if error.code in (Code.EXHAUSTED, Code.UNAVAILABLE):
        headers["Retry-After"] = "1"
    exact = isinstance(error.fields.get("status"), int)
    return problem(scope, status_of(error), error.message, kind=_FRAMEWORK if exact else kind, headers=headers)


def status_of(error: PlatformError) -> int:
    """The HTTP status of a refusal."""
    exact = error.fields.get("status")
    return exact if isinstance(exact, int) else _STATUS[error.code][0]


def install(app: FastAPI) -> None:
    """Let the framework's own refusals speak the same dialect."""

    async def invalid(request: Request, error: Exception) -> Response:
        errors: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
        return problem(request.scope, 400, describe(errors))

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _of_http(app.routes, request, status)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def describe(errors: Sequence[Any]) -> str:
    """Every violation with field path, rejected value and limit (section 3.3)."""
    errors = [error for error in errors if not _follows(error, errors)]
    parts = [_describe(error) for error in errors[:SHOWN_ERRORS]]
    if len(errors) > SHOWN_ERRORS:
        parts.append(f"and {len(errors) - SHOWN_ERRORS} more")
    return "Validation failed: " + "; ".join(parts)


def _follows(error: Mapping[str, Any], errors: Sequence[Any]) -> bool:
    """Whether a list is too short only because members of it were refused: pydantic counts those that remain."""
    here = tuple(error.get("loc", ()))
    return error.get("type") == "too_short" and any(
        len(other["loc"]) > len(here) and tuple(other["loc"])[: len(here)] == here for other in errors
    )


def _describe(error: Mapping[str, Any]) -> str:
    message = str(error.get("msg", "")).removeprefix("Value error, ")
    if error.get("type") == "missing":
        return f"field '{path_of(error['loc'])}': is required"
    if _is_confidential(error["loc"]):
        return f"field '{path_of(error['loc'])}': {message}"
    return f"field '{path_of(error['loc'])}': rejected value [{_shown(error.get('input'))}]; {message}"


def _is_confidential(location: Sequence[object]) -> bool:
    """Whether what was rejected is, or may hold, a secret or a variable: those are not repeated anywhere."""
    return list(location) == ["body"] or bool({"secret", "secrets", "containerEnvironment"}.intersection(location))


def path_of(location: Iterable[object]) -> str:
    """``('body', 'specs', 0, 'gpu')`` as ``specs[0].gpu``."""
    text = ""
    for part in list(location)[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "body"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= SHOWN_CHARS:
        return text
    return f"{text[:SHOWN_CHARS]}… ({len(text)} characters)"


def _of_http(routes: Sequence[BaseRoute], request: Request, status: int) -> Response:
    what = f"{request.method} {request.scope.get(ORIGINAL_PATH, request.url.path)}"
    if status == HTTPStatus.NOT_FOUND:
        return problem(
            request.scope,
            status,
            f"{what}: this release does not serve this path; /docs lists what it does serve",
            kind="not-found",
        )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(_methods(routes, request.scope)))
        return problem(request.scope, status, f"{what}: this path takes {allowed} only", headers={"Allow": allowed})
    return problem(request.scope, status, f"{what}: {HTTPStatus(status).phrase}")


def _methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is Match.PARTIAL:
            found |= getattr(route, "methods", None) or set()
    return found

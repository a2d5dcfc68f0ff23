"""The audit log: every authenticated request that means to change something is recorded before it is answered.

A change whose record cannot be written is answered with 503: it may have happened, and the caller is told to look.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpufn.api.context import Context, Ctx
from gpufn.api.problems import status_of
from gpufn.api.security import CALLER, Caller
from gpufn.model.access import Principal
from gpufn.model.audit import PATH_MAX, AuditRecord
from gpufn.model.errors import PlatformError
from gpufn.store import audit
from gpufn.wire.audit import AuditDto, AuditResponse

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
QUESTIONS = ("/v1/introspect", "/v1/namespaces/", "/v1/admin/lookup", "/v1/nvct/tasks/bulk")
"""Below these a POST asks and changes nothing."""
PAGE_MAX = 1000


class Audit:
    """Stands behind authentication, in front of the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get(CALLER)
        if caller is None or scope["method"] not in CHANGING or scope["path"].startswith(QUESTIONS):
            await self._app(scope, receive, send)
            return

        answered, status = False, 500

        async def recorded(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                await _record(scope, caller, message["status"])
                answered = True
            await send(message)

        try:
            await self._app(scope, receive, recorded)
        except PlatformError as error:  # answered further out
            status = status_of(error)
            raise
        finally:
            if not answered:
                await _record(scope, caller, status)


async def _record(scope: Scope, caller: Principal, status: int) -> None:
    context: Context = scope["app"].state.context
    record = AuditRecord(
        seq=0,
        at=context.now(),
        nca_id=_account(scope, caller),
        subject=caller.subject,
        key_id=caller.key_id or "",
        method=scope["method"],
        path=scope["path"][:PATH_MAX],
        status=status,
    )
    await context.db.run(lambda tx: audit.append(tx, record))


def _account(scope: Scope, caller: Principal) -> str:
    """The account that the path names, else the caller's own."""
    named = scope.get("path_params", {}).get("ncaId")
    return str(named or caller.nca_id)[:64]


async def list_records(
    caller: Caller,
    context: Ctx,
    *,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
) -> AuditResponse:
    """What follows record ``after``, over all accounts."""
    found = await context.db.run(lambda tx: audit.after(tx, after, limit=limit))
    return AuditResponse(records=tuple(AuditDto.of(record) for record in found))

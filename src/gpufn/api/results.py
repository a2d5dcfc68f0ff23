"""Large results of calls: a zip that whoever holds the URL of a 302 may fetch (invocation-plane page, section 8.3)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import StreamingResponse

from gpufn.api.assets import Expires, Signature
from gpufn.api.context import Ctx
from gpufn.auth import signed_urls
from gpufn.model.errors import NotFound
from gpufn.store import invocations
from gpufn.wire.objects import result_path
from gpufn.wire.scalars import Uuid

RequestIdPath = Annotated[Uuid, Path(alias="requestId")]


async def get_result(
    context: Ctx, *, request_id: RequestIdPath, expires: Expires, signature: Signature
) -> StreamingResponse:
    """The zip of a large result, for whoever holds a URL made for reading it. Never shown as a page of this site."""
    now = context.now().timestamp()
    signed_urls.check(context.pepper, "GET", result_path(request_id), expires=expires, signature=signature, now=now)
    record = await context.db.run(lambda tx: invocations.get(tx, request_id))
    body = record.outcome.body if record is not None and record.outcome is not None else None
    pieces = await context.objects.get(body.key) if body is not None and body.key is not None else None
    if body is None or pieces is None or not body.is_archive:
        raise NotFound(f"Request id '{request_id}': its result is not there any more")
    headers = {
        "Content-Length": str(body.size),
        "Content-Disposition": f'attachment; filename="{request_id}.zip"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(pieces, headers=headers, media_type="application/zip")

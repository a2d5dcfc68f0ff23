"""The files of a task's results, listed and read out of our own object store. gpufn's own: NVCT's are in NGC."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import Path, Response
from fastapi.responses import StreamingResponse

from gpufn.api.context import Context, Ctx
from gpufn.api.paging import DEFAULT_LIMIT, LIMIT_MAX, CursorQuery, LimitQuery
from gpufn.api.security import Caller
from gpufn.api.tasks import TaskIdPath, own_task, throttle
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.task import ResultFile, TaskResult
from gpufn.store import tasks
from gpufn.store.database import Transaction
from gpufn.wire.scalars import Uuid
from gpufn.wire.task_views import ResultFileDto, ResultFilesResponse

ResultIdPath = Annotated[Uuid, Path(alias="resultId")]
NumberPath = Annotated[int, Path(alias="number", ge=0, le=2**31 - 1)]

_NUMBER = re.compile(r"[0-9a-f]{8}")


async def list_result_files(
    caller: Caller,
    context: Ctx,
    *,
    task_id: TaskIdPath,
    result_id: ResultIdPath,
    limit: LimitQuery = None,
    cursor: CursorQuery = None,
) -> ResultFilesResponse:
    """The files of one result, by path."""
    result = await _own_result(caller, context, task_id, result_id)
    start, most = _start(cursor), min(limit or DEFAULT_LIMIT, LIMIT_MAX)
    end = start + most
    shown = tuple(ResultFileDto.of(n, file) for n, file in enumerate(result.files[start:end], start))
    if end >= len(result.files):
        return ResultFilesResponse(files=shown)
    return ResultFilesResponse(files=shown, limit=most, cursor=f"{end:08x}")


async def get_result_file(
    caller: Caller, context: Ctx, *, task_id: TaskIdPath, result_id: ResultIdPath, number: NumberPath
) -> Response:
    """The bytes of one file, in pieces as the store has them. Never shown as a page of this site."""
    result = await _own_result(caller, context, task_id, result_id)
    if number >= len(result.files):
        raise NotFound(
            f"Task id '{task_id}': result '{result_id}' has {len(result.files)} files, none numbered {number}"
        )
    file = result.files[number]
    pieces = await context.objects.get(file.key)
    if pieces is None:
        raise NotFound(f"Task id '{task_id}': the content of result file {number} is not there any more")
    return StreamingResponse(pieces, headers=_headers(file), media_type="application/octet-stream")


async def _own_result(caller: Principal, context: Context, task_id: str, result_id: str) -> TaskResult:
    """One result of the caller's task. Raises NotFound, Forbidden, Exhausted."""
    throttle(context, caller, task_id)

    def read(tx: Transaction) -> TaskResult | None:
        own_task(tx, caller, task_id, f"Task '{task_id}': Forbidden to list results")
        return tasks.get_result(tx, task_id, result_id)

    found = await context.db.run(read)
    if found is None:
        raise NotFound(f"Task id '{task_id}': Result '{result_id}' not found")
    return found


def _start(cursor: str | None) -> int:
    """The number of the first file of a page; raises Invalid for a cursor that we did not give."""
    if cursor is None:
        return 0
    if not _NUMBER.fullmatch(cursor):
        raise Invalid(f"Invalid cursor: '{cursor}'")
    return int(cursor, 16)


def _headers(file: ResultFile) -> dict[str, str]:
    name = quote(file.path.rpartition("/")[2], safe="", errors="replace")
    return {
        "Content-Length": str(file.size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }

"""What a task wrote, page by page as ngcsdk asks for it: a query is given an id, under which its pages are read.

Nothing is kept of a query: its id says which task and from when, and whoever reads a page is looked at again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

from fastapi import Path, Query

from gpufn.api import log_reading
from gpufn.api.context import Context, Ctx
from gpufn.api.log_reading import Entry, Wanted
from gpufn.api.security import Caller
from gpufn.api.tasks import TaskIdPath, own_task, throttle
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.ids import is_uuid
from gpufn.wire.task_views import LogLineDto, LogPageMetadata, LogPageResponse
from gpufn.wire.tasks import LogQuery

PAGE = 100
"""Lines of a page, unless another number is asked for."""
PAGE_MAX = 1000
SECOND = timedelta(seconds=1)
"""Queries name whole seconds; the last one counts to its end."""
LINES_MAX = 20_000
"""Lines that can be read this way; ``/v2/gpufn/tasks/{taskId}/logs`` gives all."""

JobIdPath = Annotated[str, Path(alias="jobId", max_length=128)]


async def query_task_logs(caller: Caller, context: Ctx, *, task_id: TaskIdPath, body: LogQuery) -> LogPageResponse:
    """The first page of what a task wrote between ``start`` and ``end``, and the id under which the rest is."""
    job = f"{task_id}.{_seconds(body.start)}.{_seconds(body.end)}"
    return await _page(caller, context, job, number=1, size=PAGE)


async def get_task_log_page(
    caller: Caller,
    context: Ctx,
    *,
    job_id: JobIdPath,
    page: Annotated[int, Query(ge=1, le=LINES_MAX)] = 1,
    page_size: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE,
) -> LogPageResponse:
    """Another page."""
    return await _page(caller, context, job_id, number=page, size=page_size)


async def _page(caller: Principal, context: Context, job_id: str, *, number: int, size: int) -> LogPageResponse:
    task_id, start, end = _parsed(job_id)
    throttle(context, caller, task_id)
    denied = "Insufficient resource access for task details"
    task = await context.db.run(lambda tx: own_task(tx, caller, task_id, denied))
    found: list[Entry] = []
    entries = log_reading.kept(context, task.instances, Wanted(since=start))
    try:
        async for entry in entries:
            if entry is not None and (end is None or entry.at is None or entry.at < end + SECOND):
                found.append(entry)
            if len(found) == LINES_MAX:
                break
    finally:
        await entries.aclose()
    shown = islice(found, (number - 1) * size, number * size)
    return LogPageResponse(
        job_id=job_id,
        metadata=LogPageMetadata(page=number, total_pages=-(-len(found) // size)),
        data=tuple(LogLineDto(message=e.text, instance_id=e.instance_id, timestamp=e.at) for e in shown),
    )


def _parsed(job_id: str) -> tuple[str, datetime | None, datetime | None]:
    """The task and the times of a query. Raises NotFound for an id that we did not give."""
    task_id, _, times = job_id.partition(".")
    start, _, end = times.partition(".")
    if not is_uuid(task_id) or not all(
        t == "" or (t.isascii() and t.isdecimal() and len(t) <= 11) for t in (start, end)
    ):
        raise NotFound(f"jobId: there is no query '{job_id}'; ask for the logs of a task first")
    return task_id, _moment(start), _moment(end)


def _moment(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text else None


def _seconds(moment: datetime | None) -> str:
    """Whole seconds since 1970; nothing where no time was given."""
    if moment is None:
        return ""
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise Invalid("parameters: a time before 1970")
    return str(seconds)

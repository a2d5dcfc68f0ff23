"""What a task wrote. gpufn's own route."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from gpufn.api import log_reading
from gpufn.api.context import Ctx
from gpufn.api.lines import LineStream
from gpufn.api.log_reading import Wanted
from gpufn.api.logs import encoded
from gpufn.api.security import Caller
from gpufn.api.tasks import TaskIdPath, own_task, throttle


async def get_task_logs(
    caller: Caller,
    context: Ctx,
    *,
    task_id: TaskIdPath,
    follow: Annotated[bool, Query()] = False,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
) -> Response:
    """What is kept of every attempt, oldest first, as lines of ``{instanceId, text}``; the last ``tail`` of each.
    With ``follow`` also what comes, until the task has ended.
    """
    throttle(context, caller, task_id)
    denied = "Insufficient resource access for task details"
    task = await context.db.run(lambda tx: own_task(tx, caller, task_id, denied))
    wanted = Wanted(tail=tail)
    if follow:
        return LineStream(encoded(log_reading.follow(context, log_reading.of_task(task.id), wanted)))
    return LineStream(encoded(log_reading.kept(context, task.instances, wanted)))

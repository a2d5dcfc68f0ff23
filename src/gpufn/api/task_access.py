"""Live access to a task's instance as ngcsdk calls it: ``…/skyway/{instances,logs,commands}/tasks/{taskId}``.

As the reference's front end has it, no active instance is a refusal (tasks page, section 8, Skyway).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api import log_reading, skyway
from gpufn.api.context import Context, Ctx
from gpufn.api.exec import Live, run
from gpufn.api.lines import LineStream
from gpufn.api.log_reading import Wanted
from gpufn.api.security import Caller
from gpufn.api.tasks import TaskIdPath, own_task, throttle
from gpufn.model.access import Principal
from gpufn.model.errors import Forbidden, NotFound
from gpufn.model.ids import InstanceId
from gpufn.model.task import Task
from gpufn.runtime.clock import loop_now
from gpufn.wire.exec import SECONDS, SECONDS_MAX, ExecResponse, ShellRequest
from gpufn.wire.scalars import Uuid
from gpufn.wire.task_views import TaskSkywayInstancesResponse, skyway_instances

InstanceQuery = Annotated[Uuid, Query(alias="instanceId")]


async def task_instances(caller: Caller, context: Ctx, *, task_id: TaskIdPath) -> TaskSkywayInstancesResponse:
    """The live instance of a task."""
    task = await _task(caller, context, task_id)
    shown = skyway_instances(task, context.fleet.clusters)
    if not shown:
        raise _inactive(task_id)
    clusters = context.fleet.clusters
    cluster = clusters.get(task.cluster_id) or clusters.local
    return TaskSkywayInstancesResponse(task_id=task.id, backend=cluster.group_name, instances=shown)


async def task_lines(
    caller: Caller,
    context: Ctx,
    *,
    task_id: TaskIdPath,
    instance_id: InstanceQuery,
    since: Annotated[str | None, Query(max_length=16)] = None,
    since_time: Annotated[datetime | None, Query(alias="sinceTime")] = None,
    seconds: Annotated[int, Query(alias="timeout", ge=1, le=skyway.TIMEOUT_MAX)] = skyway.TIMEOUT,
) -> Response:
    """What an instance writes, as server-sent events, one line each, until it ends or the time is over."""
    task = await _task(caller, context, task_id)
    if instance_id not in task.instances:
        raise NotFound(f"Task id '{task_id}': no instance '{instance_id}' is recorded")
    wanted = Wanted(instance_id, since=skyway.start_of(context, since, since_time))
    entries = log_reading.follow(context, log_reading.of_task(task.id, instance_id), wanted)
    return LineStream(skyway.events_until(entries, until=loop_now() + seconds), media_type="text/event-stream")


async def task_command(
    caller: Caller,
    context: Ctx,
    *,
    task_id: TaskIdPath,
    body: ShellRequest,
    instance_id: InstanceQuery,
    seconds: Annotated[int, Query(alias="timeoutSeconds", ge=1, le=SECONDS_MAX)] = SECONDS,
) -> ExecResponse:
    """Run a command beside a task, with its files, its variables and its rights."""
    task = await _task(caller, context, task_id)
    live = [one.instance_id for one in skyway_instances(task, context.fleet.clusters)]
    if not live:
        raise _inactive(task_id)
    if instance_id not in live:
        raise NotFound(f"Task id '{task_id}': its instance is '{live[0]}', not '{instance_id}'")
    return await run(context, caller, Live(InstanceId(instance_id), task.status.value), body.words(), seconds=seconds)


async def _task(caller: Principal, context: Context, task_id: str) -> Task:
    throttle(context, caller, task_id)
    denied = "Insufficient resource access for task details"
    return await context.db.run(lambda tx: own_task(tx, caller, task_id, denied))


def _inactive(task_id: str) -> Forbidden:
    return Forbidden(f"No active instances for the task ID: {task_id}")

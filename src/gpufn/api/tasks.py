"""Tasks (tasks page, sections 2 to 5). Writes what is wanted; the controllers make it so."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Path, Query, Response

from gpufn.api import launching, secrets
from gpufn.api.context import Context, Ctx
from gpufn.api.paging import CursorQuery, LimitQuery, Paging
from gpufn.api.security import Caller
from gpufn.auth.access import require_task, require_tasks
from gpufn.model.access import Principal
from gpufn.model.errors import Invalid, NotFound
from gpufn.model.ids import new_id
from gpufn.model.secret import task_place
from gpufn.model.task import Task, TaskWanted
from gpufn.store import accounts, secrets as stored_secrets, tasks, telemetries
from gpufn.store.database import Transaction
from gpufn.wire.scalars import Uuid
from gpufn.wire.task_views import (
    BasicTaskDto,
    BulkTasksResponse,
    ListEventsResponse,
    ListResultsResponse,
    ListTasksResponse,
    TaskDto,
    TaskEventDto,
    TaskInstanceDto,
    TaskResponse,
    TaskResultDto,
)
from gpufn.wire.tasks import AnyTaskStatus, BulkTasksRequest, CreateTaskRequest, UpdateTaskSecretsRequest

TaskIdPath = Annotated[Uuid, Path(alias="taskId")]


async def create_task(caller: Caller, context: Ctx, *, body: CreateTaskRequest) -> TaskResponse:
    """Launch a task. It is queued, and runs when GPUs are free."""
    throttle(context, caller)

    def write(tx: Transaction) -> Task:
        require_tasks(caller)
        if accounts.get(tx, caller.nca_id) is None:
            raise NotFound(f"Account '{caller.nca_id}': Does not exist")
        place = launching.check(body, context.fleet.clusters.admitting(caller.nca_id))
        task = launching.new_task(body, place, task_id=new_id(), nca_id=caller.nca_id, now=context.now())
        tasks.insert(tx, task)
        _use_telemetries(tx, task)
        given = body.secrets or ()
        secrets.put(tx, context, task_place(task.nca_id, task.id), [s.to_model() for s in given])
        return task

    task = await context.db.run(write)
    context.hints.hint("task-queue", task.definition.gpu)
    return TaskResponse(task=_dto(context, task, secrets=tuple(s.name for s in body.secrets or ())))


def _use_telemetries(tx: Transaction, task: Task) -> None:
    """Raises Invalid for an endpoint that the account has not, or that does not take what is sent (section 3.2)."""
    chosen = task.definition.telemetries.by_type() if task.definition.telemetries is not None else {}
    for kind, telemetry_id in chosen.items():
        try:
            takes = telemetries.get(tx, task.nca_id, telemetry_id).types
        except NotFound as error:
            raise Invalid(f"Telemetry '{telemetry_id}' not found in account '{task.nca_id}'") from error
        if kind not in takes:
            raise Invalid(f"Telemetry '{telemetry_id}' - Invalid type '{kind.value}'")
    telemetries.use(tx, task.id, chosen.values())


async def list_tasks(
    caller: Caller,
    context: Ctx,
    *,
    limit: LimitQuery = None,
    cursor: CursorQuery = None,
    status: Annotated[AnyTaskStatus | None, Query()] = None,
) -> ListTasksResponse:
    """The tasks within the caller's reach, newest first. ``status`` filters a page after it was read."""
    throttle(context, caller)
    paging = Paging.of(limit, cursor)
    found = await context.db.run(lambda tx: tasks.page(tx, caller.nca_id, limit=paging.fetched, after=paging.after))
    page = paging.page(found, lambda task: (task.created_at, task.id))
    shown = (t for t in page.elements if caller.reaches_task(t.id) and status in (None, t.status))
    return ListTasksResponse(tasks=tuple(_dto(context, t) for t in shown), limit=page.limit, cursor=page.cursor)


async def bulk_tasks(caller: Caller, context: Ctx, *, body: BulkTasksRequest) -> BulkTasksResponse:
    """Name and status of many tasks; all of them must exist and be within reach."""
    throttle(context, caller)
    wanted = tuple(dict.fromkeys(body.task_ids))
    found = await context.db.run(lambda tx: tasks.of_ids(tx, wanted))
    own = [_own(found.get(task_id), caller, task_id) for task_id in wanted]
    for task in own:
        require_task(caller, task.id, "Insufficient resource access for task details")
    return BulkTasksResponse(
        nca_id=caller.nca_id, tasks=tuple(BasicTaskDto(id=t.id, name=t.name, status=t.status) for t in own)
    )


async def get_task(
    caller: Caller,
    context: Ctx,
    *,
    task_id: TaskIdPath,
    include_secrets: Annotated[bool, Query(alias="includeSecrets")] = True,
) -> TaskResponse:
    """One task, with its instance while it has one."""
    throttle(context, caller, task_id)

    def read(tx: Transaction) -> TaskResponse:
        task = own_task(tx, caller, task_id, "Insufficient resource access for task details")
        names = stored_secrets.names(tx, task_place(task.nca_id, task.id)) if include_secrets else ()
        shown = TaskInstanceDto.of(task, context.fleet.clusters)
        return TaskResponse(task=_dto(context, task, instances=shown, secrets=tuple(names)))

    return await context.db.run(read)


async def cancel_task(caller: Caller, context: Ctx, *, task_id: TaskIdPath) -> TaskResponse:
    """End a task that has not ended. Its instance is given the task's grace period."""
    throttle(context, caller, task_id)

    def write(tx: Transaction) -> Task:
        task = own_task(tx, caller, task_id, "Insufficient resource access to cancel task")
        if task.status.is_terminal:
            raise Invalid(f"Invalid request: Cannot cancel a Task with '{task.status}' terminal status")
        now = context.now()
        return tasks.save(tx, task, replace(task, wanted=TaskWanted.CANCELED, canceled_at=now, updated_at=now))

    task = await context.db.run(write)
    context.hints.hint("task", task.id)
    return TaskResponse(task=_dto(context, task))


async def delete_task(caller: Caller, context: Ctx, *, task_id: TaskIdPath) -> Response:
    """Forget a task in any status, with its instance, events, results and secrets."""
    throttle(context, caller, task_id)

    def write(tx: Transaction) -> None:
        task = own_task(tx, caller, task_id, "Insufficient resource access to delete task")
        tasks.save(tx, task, replace(task, wanted=TaskWanted.DELETED, updated_at=context.now()))

    await context.db.run(write)
    context.hints.hint("task", task_id)
    return Response(status_code=204)


async def update_task_secrets(
    caller: Caller, context: Ctx, *, task_id: TaskIdPath, body: UpdateTaskSecretsRequest
) -> Response:
    """Add or overwrite secrets of a task that was launched with some; a running task sees the new values."""
    throttle(context, caller, task_id, admins=True)
    who = f"Task id '{task_id}': "
    if not body.secrets:
        raise Invalid(f"{who}Missing secrets in the payload")
    given = body.secrets

    def write(tx: Transaction) -> None:
        task = own_task(tx, caller, task_id, f"Task '{task_id}': Forbidden to update secrets")
        place = task_place(task.nca_id, task.id)
        if not stored_secrets.names(tx, place):
            raise Invalid(f"{who}Cannot update secrets for a Task that does not have any secrets")
        if task.status.is_terminal:
            raise Invalid(f"{who}Cannot update secrets for a Task with terminal status '{task.status}'")
        launching.check_unique(given)
        secrets.put(tx, context, place, [s.to_model() for s in given])

    await context.db.run(write)
    context.hints.hint("task-secret", task_id)
    return Response(status_code=204)


async def list_task_events(
    caller: Caller, context: Ctx, *, task_id: TaskIdPath, limit: LimitQuery = None, cursor: CursorQuery = None
) -> ListEventsResponse:
    """What happened to a task, oldest first."""
    throttle(context, caller, task_id)
    paging = Paging.of(limit, cursor)
    denied = f"Task '{task_id}': Forbidden to list events"

    def read(tx: Transaction) -> ListEventsResponse:
        task = own_task(tx, caller, task_id, denied)
        found = tasks.events_page(tx, task.id, limit=paging.fetched, after=paging.after)
        page = paging.page(found, lambda event: (event.created_at, event.id))
        shown = tuple(TaskEventDto.of(event, task.nca_id) for event in page.elements)
        return ListEventsResponse(events=shown, limit=page.limit, cursor=page.cursor)

    return await context.db.run(read)


async def list_task_results(
    caller: Caller, context: Ctx, *, task_id: TaskIdPath, limit: LimitQuery = None, cursor: CursorQuery = None
) -> ListResultsResponse:
    """The results of a task, oldest first; of one with strategy NONE there are none."""
    throttle(context, caller, task_id)
    paging = Paging.of(limit, cursor)
    denied = f"Task '{task_id}': Forbidden to list results"

    def read(tx: Transaction) -> ListResultsResponse:
        task = own_task(tx, caller, task_id, denied)
        found = tasks.results_page(tx, task.id, limit=paging.fetched, after=paging.after)
        page = paging.page(found, lambda result: (result.created_at, result.id))
        shown = tuple(TaskResultDto.of(result, task.nca_id) for result in page.elements)
        return ListResultsResponse(results=shown, limit=page.limit, cursor=page.cursor)

    return await context.db.run(read)


def own_task(tx: Transaction, caller: Principal, task_id: str, denied: str) -> Task:
    """One task of the caller's account; raises NotFound, then Forbidden with ``denied``."""
    task = _own(tasks.get(tx, task_id), caller, task_id)
    require_task(caller, task_id, denied)
    return task


def _own(task: Task | None, caller: Principal, task_id: str) -> Task:
    if task is None or task.wanted is TaskWanted.DELETED:
        raise NotFound(f"Task id '{task_id}': Not found")
    if task.nca_id != caller.nca_id:
        raise NotFound(f"Task id '{task_id}': Not found in account '{caller.nca_id}'")
    return task


def _dto(
    context: Context,
    task: Task,
    *,
    instances: tuple[TaskInstanceDto, ...] | None = None,
    secrets: tuple[str, ...] | None = None,
) -> TaskDto:
    return TaskDto.of(task, instances=instances, secrets=secrets, backend=context.fleet.clusters.local.group_name)


def throttle(context: Context, caller: Principal, task_id: str | None = None, *, admins: bool = False) -> None:
    """Raises Exhausted when the account, or the task, is asked about too often. Admins at work in an account are not
    counted, unless ``admins`` says so (tasks page, section 1).
    """
    if caller.acts_for_others and not admins:
        return
    context.task_rate.take(f"Account '{caller.nca_id}'")
    if task_id is not None:
        context.task_rate.take(f"Task id '{task_id}'")

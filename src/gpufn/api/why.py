"""Why something is as it is: one sentence, its facts, what happened, what was logged.

A kind of thing that can be explained is a row of ``EXPLAINERS``. A request that a gateway has in its hands is explained
there, under the same path; one that was accepted and is nowhere else is explained here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeAlias

from fastapi import Path

from gpufn.api.context import Context, Ctx
from gpufn.api.security import Caller
from gpufn.api.views import Seen, known_version, own_version, see
from gpufn.auth.access import require_scope, require_task, require_version, visible
from gpufn.compute.backend import BackendError
from gpufn.model.access import Principal
from gpufn.model.cluster import Cluster
from gpufn.model.errors import Forbidden, Invalid, NotFound
from gpufn.model.function import FunctionVersion
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Instance
from gpufn.model.invocation import AcceptedInvocation
from gpufn.model.task import Task, TaskEvent, TaskWanted
from gpufn.model.task_why import ails, of_task
from gpufn.model.why import Backlog, Explanation, of_instance, of_invocation, of_version
from gpufn.runtime.clock import loop_now
from gpufn.store import deployments, events, functions, instances, invocations, tasks
from gpufn.store.database import Transaction
from gpufn.store.events import Wanted
from gpufn.wire.events import EventDto
from gpufn.wire.scalars import Uuid
from gpufn.wire.why import WhyResponse

Explain: TypeAlias = Callable[[Context, Principal, str], Awaitable[WhyResponse | None]]
"""Explains the thing of an id; None when the caller's account has no such thing. Raises Forbidden beyond its reach."""


@dataclass(frozen=True)
class Explainer:
    """``scope``: what a caller needs to be told."""

    explain: Explain
    scope: str


SubjectId: TypeAlias = Annotated[Uuid, Path(alias="id")]

LOG_LINES = 50
"""Lines of log that go with a failure."""
EVENTS = 10
"""Events that go with an answer."""


async def explain(
    caller: Caller, context: Ctx, *, kind: str, subject_id: Annotated[Uuid, Path(alias="id")]
) -> WhyResponse:
    """Why the ``kind`` of that id is as it is."""
    explainer = EXPLAINERS.get(kind.lower())
    if explainer is None:
        raise Invalid(f"kind: '{kind[:64]}' must be one of {', '.join(EXPLAINERS)}")
    require_scope(caller, (explainer.scope,))
    found = await explainer.explain(context, caller, subject_id)
    if found is None:
        raise _unknown(kind.lower(), subject_id, caller)
    return found


async def explain_any(caller: Caller, context: Ctx, *, subject_id: SubjectId) -> WhyResponse:
    """Why the thing of that id is as it is, whatever it is: of the kinds that the caller may be told of."""
    told = {kind: one for kind, one in EXPLAINERS.items() if caller.has_scope(one.scope)}
    for explainer in told.values():
        found = await explainer.explain(context, caller, subject_id)
        if found is not None:
            return found
    raise _unknown(" or ".join(told), subject_id, caller)


def _unknown(kinds: str, subject_id: str, caller: Principal) -> NotFound:
    return NotFound(
        f"'{subject_id}': account '{caller.nca_id}' has no {kinds} of that id; an instance is forgotten some time "
        "after its end, a request when its response was delivered"
    )


async def _function(context: Context, caller: Principal, subject_id: str) -> WhyResponse | None:
    """A function or a version; of several versions the newest that is deployed, else the newest."""
    seen = await context.db.run(lambda tx: see(tx, _versions(tx, caller, subject_id)))
    if not seen:
        return None
    chosen = next((s for s in reversed(seen) if s.deployment is not None), seen[-1])
    others = [("other version", f"{s.version.id} {s.condition.status.value}") for s in seen if s is not chosen]
    return await _of_version(context, chosen, "function", subject_id, others)


def _versions(tx: Transaction, caller: Principal, subject_id: str) -> list[FunctionVersion]:
    version = functions.find(tx, subject_id)
    if version is not None:
        found = [version] if version.nca_id == caller.nca_id else []
    else:
        found = functions.siblings(tx, caller.nca_id, subject_id)
    reached = visible(caller, found)
    if found and not reached:
        raise Forbidden(f"Access Denied: function id '{found[0].function_id}' is not among this key's resources")
    return reached


async def _deployment(context: Context, caller: Principal, subject_id: str) -> WhyResponse | None:
    """A deployment that exists."""

    def read(tx: Transaction) -> Seen | None:
        found = deployments.get(tx, subject_id)
        if found is None or found.nca_id != caller.nca_id:
            return None
        return own_version(tx, caller, found.function_id, found.version_id)

    seen = await context.db.run(read)
    return None if seen is None else await _of_version(context, seen, "deployment", subject_id)


async def _of_version(
    context: Context, seen: Seen, kind: str, subject_id: str, others: Sequence[tuple[str, str]] = ()
) -> WhyResponse:
    load = context.load.load(seen.version.id, now=loop_now())
    own = [i for i in seen.instances if seen.deployment is not None and i.deployment_id == seen.deployment.id]
    answer = of_version(seen.version.name, seen.deployment, own, Backlog(load.queued, load.in_flight))
    answer = Explanation(answer.sentence, (*answer.facts, *others))
    failed = [i for i in own if i.failure is not None]
    last = max(failed, key=lambda i: (i.ended_at or i.updated_at, i.id), default=None)
    ready = any(i.failure is None and i.is_live and i.ready_at is not None for i in own)
    wanted = Wanted(seen.version.nca_id, version_id=seen.version.id)
    return await _complete(context, WhyResponse.of(kind, subject_id, answer), wanted, None if ready else last)


async def _instance(context: Context, caller: Principal, subject_id: str) -> WhyResponse | None:
    """An instance that is recorded, ended ones too."""
    instance = await context.db.run(lambda tx: instances.get(tx, subject_id))
    if instance is None or instance.nca_id != caller.nca_id:
        return None
    require_version(caller, instance.function_id, instance.version_id)
    answer = of_instance(instance, context.now())
    cluster = context.fleet.clusters.get(instance.cluster_id) if instance.was_placed else None
    if cluster is not None:
        answer = Explanation(answer.sentence, (*answer.facts, ("cluster", _standing(cluster, context.now()))))
    wanted = Wanted(instance.nca_id, instance_id=instance.id)
    ailing = instance if instance.failure is not None or instance.unhealthy_at is not None else None
    return await _complete(context, WhyResponse.of("instance", subject_id, answer), wanted, ailing)


def _standing(cluster: Cluster, now: datetime) -> str:
    problem = f": {cluster.health.problem}" if cluster.health.problem else ""
    return f"{cluster.name} {cluster.status(now)}{problem}"


async def _request(context: Context, caller: Principal, subject_id: str) -> WhyResponse | None:
    """An invocation that was accepted (202), until it is forgotten."""

    def read(tx: Transaction) -> AcceptedInvocation | None:
        found = invocations.get(tx, subject_id)
        if found is None or found.nca_id != caller.nca_id:
            return None
        if functions.find(tx, found.version_id) is None:
            require_version(caller, found.function_id, found.version_id)
        else:
            known_version(tx, caller, found.function_id, found.version_id)
        return found

    accepted = await context.db.run(read)
    return None if accepted is None else WhyResponse.of("request", subject_id, of_invocation(accepted, context.now()))


async def _task(context: Context, caller: Principal, subject_id: str) -> WhyResponse | None:
    """A task, until it is forgotten; with the end of its newest log when something went wrong."""

    def read(tx: Transaction) -> tuple[Task, int, list[TaskEvent]] | None:
        found = tasks.get(tx, subject_id)
        if found is None or found.nca_id != caller.nca_id or found.wanted is TaskWanted.DELETED:
            return None
        require_task(caller, found.id, "Insufficient resource access for task details")
        return found, tasks.ahead(tx, found), tasks.last_events(tx, found.id, limit=EVENTS)

    seen = await context.db.run(read)
    if seen is None:
        return None
    task, ahead, told = seen
    answer = WhyResponse.of("task", subject_id, of_task(task, ahead, told, context.now()))
    log = await _last_lines(context, task.instances[-1]) if task.instances and ails(task) else ()
    return answer.model_copy(update={"log": log})


async def _complete(context: Context, answer: WhyResponse, wanted: Wanted, ailing: Instance | None) -> WhyResponse:
    """``answer`` with the last events and, of an instance that ails, the last lines of its log."""
    told = await context.db.run(lambda tx: events.latest(tx, wanted, limit=EVENTS))
    log = await _last_lines(context, ailing.id) if ailing is not None else ()
    return answer.model_copy(update={"events": tuple(EventDto.of(e) for e in told), "log": log})


async def _last_lines(context: Context, instance_id: InstanceId) -> tuple[str, ...]:
    try:
        return tuple([line.text async for line in context.logs.logs(instance_id, follow=False, tail=LOG_LINES)])
    except BackendError as error:
        return (f"[gpufn] the log of this instance cannot be read now: {error}",)


EXPLAINERS: Mapping[str, Explainer] = {
    "function": Explainer(_function, "list_functions_details"),
    "deployment": Explainer(_deployment, "list_functions_details"),
    "instance": Explainer(_instance, "list_functions_details"),
    "request": Explainer(_request, "list_functions_details"),
    "task": Explainer(_task, "task_details"),
}
"""What can be explained, in the order in which an id of unknown kind is looked up."""

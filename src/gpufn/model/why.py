"""The answer to "why": one plain sentence about a version, an instance or a request, and its facts. Pure.

The same words stand in the reason of a 504 and in ``gpufn why``: ``obstacles`` is what gateways are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gpufn.model.deployment import Deployment, GpuSpecification
from gpufn.model.instance import Instance, InstanceStatus as S
from gpufn.model.invocation import ABANDONED, NOBODY, AcceptedInvocation
from gpufn.model.startup import summary
from gpufn.model.status import FunctionStatus, condition, ready_count


@dataclass(frozen=True)
class Backlog:
    """Requests of a version: those that wait, and those that run."""

    queued: int = 0
    in_flight: int = 0


@dataclass(frozen=True)
class Explanation:
    """``facts`` are (name, value) pairs, the most telling first."""

    sentence: str
    facts: tuple[tuple[str, str], ...] = ()


def of_version(name: str, deployment: Deployment | None, own: Sequence[Instance], backlog: Backlog) -> Explanation:
    """Why a version is as it is. ``own``: the recorded instances of its deployment."""
    if deployment is None:
        return Explanation(f"{name} is not deployed, so nothing runs and calls are refused; `gpufn deploy {name}`")
    state = condition(deployment, own)
    facts = [("status", state.status.value)]
    facts += [_of_specification(spec, own) for spec in deployment.specifications]
    facts.append(("requests", f"{backlog.queued} queued, {backlog.in_flight} running"))
    if state.status is not FunctionStatus.ACTIVE:
        facts += [("failure", wrong.error) for wrong in state.health]
    return Explanation(f"{name} {_standing(state.status, deployment, own, backlog)}", tuple(facts))


def _standing(status: FunctionStatus, deployment: Deployment, own: Sequence[Instance], backlog: Backlog) -> str:
    match status:
        case FunctionStatus.INACTIVE:
            return "is being undeployed: what is queued is still served, nothing new is taken"
        case FunctionStatus.ERROR:
            return (
                f"is in ERROR: the deployment failed: {deployment.failure or 'no reason is recorded'}; "
                "put that right, undeploy it, and deploy again"
            )
        case FunctionStatus.ACTIVE:
            return _active(deployment, own, backlog)
        case FunctionStatus.DEPLOYING | FunctionStatus.DEGRADING | FunctionStatus.DEGRADED:
            needed = sum(spec.min_instances for spec in deployment.specifications)
            ready = sum(min(ready_count(s, own), s.min_instances) for s in deployment.specifications)
            why = obstacles(deployment, own)
            return f"is {status.value}: {ready} of {needed} instances are ready" + (f"; {why}" if why else "")


def _active(deployment: Deployment, own: Sequence[Instance], backlog: Backlog) -> str:
    ready = sum(ready_count(spec, own) for spec in deployment.specifications)
    why = obstacles(deployment, own)
    if backlog.queued == 0:
        if ready or why:
            return f"is ACTIVE: {_counted(ready, 'ready')}, nothing waits" + (f"; {why}" if why else "")
        return "is ACTIVE and scaled to zero: nothing runs, and the first request starts an instance"
    waits = f"{backlog.queued} request{'s wait' if backlog.queued != 1 else ' waits'}"
    if ready == 0:
        return f"is ACTIVE, but no instance is ready: {waits}; {why or 'an instance is about to be started'}"
    slots = sum(ready_count(s, own) * s.max_request_concurrency for s in deployment.specifications)
    maximum = sum(spec.max_instances for spec in deployment.specifications)
    remedy = why or "more instances are started as scaling decides"
    if sum(i.is_live and i.wanted for i in own) >= maximum:
        remedy = "all of maxInstances run; raise maxInstances, or maxRequestConcurrency"
    return f"is ACTIVE, and no slot is free: {waits} for {slots} slots of {ready} instances; {remedy}"


def obstacles(deployment: Deployment, own: Sequence[Instance]) -> str:
    """Why there are no more instances, in one line: what start-up does, what is ill, what failed last. Empty: nothing
    is in the way.
    """
    parts = []
    waiting = [i for i in own if i.wanted and i.waits_for_room and i.failure is None]
    if waiting:
        parts.append(f"{_counted(len(waiting), 'not placed')}: {waiting[0].detail}")
    starting = [i for i in own if i.wanted and i.status in (S.PENDING, S.STARTING) and i.failure is None]
    starting = [i for i in starting if not i.waits_for_room]
    if starting:
        parts.append(_counted(len(starting), "starting", starting[0].detail))
    unhealthy = [i for i in own if i.wanted and i.status is S.UNHEALTHY]
    if unhealthy:
        parts.append(_counted(len(unhealthy), "unhealthy", unhealthy[0].detail))
    if deployment.failure is not None:
        parts.append(f"the deployment failed: {deployment.failure}")
    elif not any(i.status is S.READY and i.wanted for i in own):
        parts += _last_failure(own)
    return "; ".join(parts)


def _last_failure(own: Sequence[Instance]) -> list[str]:
    failed = sorted((i.ended_at or i.updated_at, i.id, i.failure.message) for i in own if i.failure is not None)
    if not failed:
        return []
    worked = max((i.ready_at for i in own if i.ready_at is not None and i.failure is None), default=None)
    row = [message for at, _, message in failed if worked is None or at > worked]
    if len(row) > 1:
        return [f"crash loop: {len(row)} instances in a row failed, the last one: {row[-1]}"]
    return [f"the last one failed: {failed[-1][2]}"]


def _of_specification(spec: GpuSpecification, own: Sequence[Instance]) -> tuple[str, str]:
    live = sum(i.is_live and i.wanted and i.specification_id == spec.id for i in own)
    reason = f" ({spec.desired_reason})" if spec.desired_reason else ""
    bounds = f"minInstances {spec.min_instances}, maxInstances {spec.max_instances}"
    return spec.instance_type, f"{ready_count(spec, own)} of {live} ready, desired {spec.desired}{reason}; {bounds}"


def of_instance(instance: Instance, now: datetime) -> Explanation:
    """Why an instance is as it is."""
    facts = [("status", instance.status.value), ("instance type", instance.instance_type)]
    if instance.address is not None and instance.is_live:
        facts.append(("address", f"{instance.address.host}:{instance.address.port}"))
    ended = None if instance.is_live else instance.ended_at
    phases = summary(instance.phases, ended=ended)
    if phases:
        facts.append(("start", phases))
    return Explanation(f"the instance {_doing(instance, now)}", tuple(facts))


def _doing(instance: Instance, now: datetime) -> str:
    if instance.failure is not None:
        return f"failed: {instance.failure.message}"
    detail = instance.detail
    match instance.status:
        case S.PENDING:
            return f"waits to be placed since {passed(instance.created_at, now)}" + (f": {detail}" if detail else "")
        case S.STARTING:
            phase = f", in phase {instance.phases[-1].phase}" if instance.phases else ""
            return f"is starting since {passed(instance.created_at, now)}{phase}: {detail or 'nothing is known yet'}"
        case S.READY:
            return f"is ready since {passed(instance.ready_at or instance.updated_at, now)} and takes requests"
        case S.UNHEALTHY:
            since = passed(instance.unhealthy_at or instance.updated_at, now)
            return f"gets no new requests since {since}: {detail or 'its health check fails'}"
        case S.DRAINING:
            return f"is not wanted any more and ends: {detail or 'it finishes its requests'}"
        case S.TERMINATED | S.ERRORED:
            return f"has ended {passed(instance.ended_at or instance.updated_at, now)} ago: {detail or 'not wanted'}"


def of_invocation(accepted: AcceptedInvocation, now: datetime) -> Explanation:
    """Why an accepted invocation is where it is: what the database tells when no gateway has it in its hands."""
    facts = [("function", accepted.function_id), ("version", accepted.version_id), ("attempt", str(accepted.attempt))]
    if accepted.note:
        facts.append(("last failure", accepted.note))
    return Explanation(f"the request {_fate(accepted, now)}", tuple(facts))


def _fate(accepted: AcceptedInvocation, now: datetime) -> str:
    outcome = accepted.outcome
    if outcome is not None and outcome.status == ABANDONED.status:
        return "was cancelled: nobody asked for its result for so long"
    if outcome is not None:
        ended = f"has ended with status {outcome.status}"
        return f"{ended}, and its response was delivered" if accepted.delivered_at else f"{ended}; its result is kept"
    failed = f"; the attempt before failed: {accepted.note}" if accepted.note else ""
    since = passed(accepted.accepted_at, now)
    if accepted.owner == NOBODY:
        return f"was accepted {since} ago and waits for a gateway to go on with it, attempt {accepted.attempt}{failed}"
    return f"was accepted {since} ago and has not ended, attempt {accepted.attempt}{failed}"


def _counted(count: int, state: str, detail: str = "") -> str:
    text = f"{count} instance{'s' if count != 1 else ''} {state}"
    return f"{text}: {detail}" if detail else text


def passed(moment: datetime, now: datetime) -> str:
    """How long ago, to two parts at most: ``12 s``, ``3 min``, ``2 h 5 min``."""
    seconds = max(0, int((now - moment).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

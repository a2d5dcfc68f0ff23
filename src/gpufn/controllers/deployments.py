"""Deployments: how many instances there are to be, and whether they ever were enough.

A pass is one transaction: it reads the deployment and its instances, decides, and writes. Nobody can come between, so
two passes never create the same instance twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gpufn.controllers import placing, plan
from gpufn.controllers.context import Context
from gpufn.controllers.routes import Routes
from gpufn.model import event
from gpufn.model.cluster import ClusterMode
from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.event import EventKind
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.instance import Instance
from gpufn.model.startup import Mark, StartPhase
from gpufn.model.status import FunctionStatus, condition, ready_count
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.settings import ControllerSettings
from gpufn.store import deployments, events, instances
from gpufn.store.database import Transaction

log = get_logger("deployments")

DRAIN_LOOK = 0.5
"""Seconds between two looks at a deployment that is draining."""


@dataclass(frozen=True)
class Outcome:
    """What a pass changed, and when to look again."""

    version_id: str | None = None
    touched: tuple[str, ...] = ()
    again: float | None = None
    changed: bool = False
    note: str = ""


class Deployments:
    """Key: the id of a deployment that exists, or that live instances name."""

    def __init__(self, context: Context, routes: Routes) -> None:
        self._context, self._routes = context, routes
        self._policy = restart_policy(context.settings)
        self._told: dict[str, FunctionStatus] = {}
        """The public status of each deployment when it was last looked at."""
        self.controller = Controller("deployments", self.reconcile, self.keys, resync=context.settings.resync)

    async def keys(self) -> set[str]:
        """Every deployment there is something to do for."""
        return await self._context.db.run(lambda tx: {*deployments.ids(tx), *instances.live_deployment_ids(tx)})

    async def reconcile(self, deployment_id: str) -> float | None:
        """One pass; returns the seconds until the next one that time alone makes necessary."""
        now, loop_time = self._context.now(), loop_now()
        outcome = await self._context.db.run(lambda tx: self._pass(tx, deployment_id, now, loop_time))
        if outcome.note:
            log.info(outcome.note, deployment=deployment_id, version=outcome.version_id)
        for instance_id in outcome.touched:
            self._context.hints.hint("instance", instance_id)
        if outcome.version_id is not None and (outcome.changed or outcome.touched):
            self._context.hints.hint("version", outcome.version_id)
        return outcome.again

    def _pass(self, tx: Transaction, deployment_id: str, now: datetime, loop_time: float) -> Outcome:
        deployment = deployments.get(tx, deployment_id)
        own = instances.of_deployment(tx, deployment_id)
        if deployment is None:
            self._told.pop(deployment_id, None)
            return self._retire_all(tx, own)
        self._tell_status(tx, deployment, own, now)
        if deployment.wanted is DeploymentWanted.DRAINED:
            return self._drain(tx, deployment, own, now=now, loop_time=loop_time)
        if deployment.failed_at is not None:
            return self._retire_all(tx, own)
        return self._up(tx, deployment, own, now=now, loop_time=loop_time)

    def _tell_status(self, tx: Transaction, deployment: Deployment, own: Sequence[Instance], now: datetime) -> None:
        """An event when the public status is not what it was at the last look. The first look only remembers."""
        state = condition(deployment, own)
        before = self._told.get(deployment.id, state.status)
        self._told[deployment.id] = state.status
        if before is not state.status:
            reasons = "; ".join(wrong.error for wrong in state.health)
            text = f"{before} → {state.status}" + (f": {reasons}" if reasons else "")
            events.insert(tx, (event.of_deployment(deployment, EventKind.DEPLOYMENT_STATUS, text, now=now),))

    def _up(
        self, tx: Transaction, deployment: Deployment, own: Sequence[Instance], *, now: datetime, loop_time: float
    ) -> Outcome:
        failure = plan.gives_up(deployment, own, self._policy)
        if failure is not None:
            deployments.save(tx, replace(deployment, failed_at=now, failure=failure))
            events.insert(tx, (event.of_deployment(deployment, EventKind.DEPLOYMENT_FAILED, failure, now=now),))
            outcome = self._retire_all(tx, own)
            return replace(
                outcome, version_id=deployment.version_id, changed=True, note=f"deployment failed: {failure}"
            )
        activated = deployment.activated_at is None and all(
            ready_count(spec, own) >= spec.min_instances for spec in deployment.specifications
        )
        if activated:
            deployment = deployments.save(tx, replace(deployment, activated_at=now))
        outcome = self._scale(tx, deployment, own, now=now, loop_time=loop_time)
        return replace(outcome, changed=True, note=f"active; {outcome.note}".rstrip("; ")) if activated else outcome

    def _drain(
        self, tx: Transaction, deployment: Deployment, own: Sequence[Instance], *, now: datetime, loop_time: float
    ) -> Outcome:
        """Keep serving what is queued; then go (control-plane page, section 8.4)."""
        published = self._routes.draining_since(deployment.version_id)
        load = self._context.load
        if published is not None and load.is_finished(deployment.version_id, published=published, now=loop_time):
            deployments.delete(tx, deployment.id)
            drained = event.of_deployment(deployment, EventKind.DEPLOYMENT_DELETED, "drained and undeployed", now=now)
            events.insert(tx, (drained,))
            outcome = self._retire_all(tx, own)
            return replace(outcome, version_id=deployment.version_id, changed=True, note="drained and undeployed")
        if deployment.failed_at is not None:
            return replace(self._retire_all(tx, own), version_id=deployment.version_id, again=DRAIN_LOOK)
        outcome = self._scale(tx, deployment, own, now=now, loop_time=loop_time)
        return replace(outcome, again=min(DRAIN_LOOK, outcome.again or DRAIN_LOOK))

    def _scale(
        self, tx: Transaction, deployment: Deployment, own: Sequence[Instance], *, now: datetime, loop_time: float
    ) -> Outcome:
        busy = self._context.load.busy(deployment.version_id, now=loop_time)
        moving = self._moving(own, now)
        touched: list[str] = []
        waits: list[float] = []
        notes: list[str] = []
        for spec in deployment.specifications:
            todo = plan.scale(spec, own, now, self._policy, busy=busy, moving=moving)
            for _ in range(todo.create):
                instance = _new_instance(deployment, spec, now)
                instances.insert(tx, instance)
                events.insert(tx, (event.of_instance(instance, EventKind.INSTANCE_CREATED, "created", now=now),))
                touched.append(instance.id)
            instances.retire(tx, todo.retire)
            touched += todo.retire
            waits += [] if todo.wait is None else [todo.wait]
            if todo.create or todo.retire:
                note = f"{spec.instance_type}: {todo.create} to start, {len(todo.retire)} to stop"
                notes.append(note)
                scaled = f"{note}; desired: {spec.desired} ({spec.desired_reason or 'as deployed'})"
                events.insert(tx, (event.of_deployment(deployment, EventKind.DEPLOYMENT_SCALED, scaled, now=now),))
        return Outcome(deployment.version_id, tuple(touched), min(waits, default=None), note="; ".join(notes))

    def _moving(self, own: Sequence[Instance], now: datetime) -> plan.Moving | None:
        """The instances whose cluster is drained."""
        clusters, patience = self._context.fleet.clusters, self._context.settings.cluster_drain
        at = {i.id: clusters.get(i.cluster_id) for i in own if i.is_live and i.wanted and i.was_placed}
        ids = {one for one, c in at.items() if c is not None and c.mode is ClusterMode.CORDON_AND_DRAIN}
        overdue = {one for one in ids if placing.is_overdue(at[one], now, patience)}
        return plan.Moving(ids, overdue) if ids else None

    def _retire_all(self, tx: Transaction, own: Sequence[Instance]) -> Outcome:
        victims = [i for i in own if i.is_live and i.wanted]
        instances.retire(tx, [i.id for i in victims])
        return Outcome(
            victims[0].version_id if victims else None,
            tuple(i.id for i in victims),
            note=f"not deployed any more: {len(victims)} to stop" if victims else "",
        )


def restart_policy(settings: ControllerSettings) -> plan.RestartPolicy:
    """The settings that say how failed instances are replaced."""
    return plan.RestartPolicy(
        attempts=settings.attempts,
        backoff=Backoff(settings.restart_base, settings.restart_cap),
        stable=timedelta(seconds=settings.restart_cap),
    )


def _new_instance(deployment: Deployment, spec: GpuSpecification, now: datetime) -> Instance:
    return Instance(
        id=InstanceId(new_id()),
        deployment_id=deployment.id,
        specification_id=spec.id,
        version_id=deployment.version_id,
        function_id=deployment.function_id,
        nca_id=deployment.nca_id,
        gpu=spec.gpu,
        instance_type=spec.instance_type,
        created_at=now,
        updated_at=now,
        phases=(Mark(StartPhase.QUEUED, now),),
    )

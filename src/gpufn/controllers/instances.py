"""Instances: move each of them one step at a time from what is recorded to what is wanted.

A pass is load, look, decide, do, save. What it does can be repeated, and what it saves is refused if somebody else
wrote meanwhile, so a crash or a race at any point costs one more pass and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from gpufn.compute.backend import Backend, BackendError, Observation, Phase
from gpufn.controllers import placing
from gpufn.controllers.context import Context
from gpufn.controllers.launching import launch_request
from gpufn.controllers.plan import Become, Fail, Launch, Limits, Sight, Step, Terminate, Wait, step
from gpufn.controllers.routes import Routes
from gpufn.controllers.secrets import files_of, for_launch, logins_of
from gpufn.model import event
from gpufn.model.deployment import DeploymentWanted
from gpufn.model.errors import Stale, Unavailable
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Failure, FailureKind, Instance, InstanceStatus as S
from gpufn.model.placement import Waits
from gpufn.model.startup import Mark, StartPhase, entered
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.settings import ControllerSettings
from gpufn.store import deployments, events, functions, instances
from gpufn.store.database import Transaction

log = get_logger("instances")

WORKERS = 64
"""Passes at once: one may wait as long as a health check takes."""
PLACE_LOOK = 1.0
"""Seconds until the next look for a place where there was none."""
SILENT_LOOK = 5.0
"""Seconds until the next look at an instance whose cluster does not answer; it is hinted when that changes."""
DETAIL_MAX = 500
"""Characters kept of what an instance says it is doing."""
_START_PHASES = {
    Phase.PREPARING: StartPhase.PULLING,
    Phase.STARTING: StartPhase.STARTING,
    Phase.RUNNING: StartPhase.LOADING,
}


@dataclass(frozen=True)
class Subject:
    """One instance with its version; None when the version was deleted, and then the instance is not wanted."""

    instance: Instance
    version: FunctionVersion | None
    deployed: bool = False
    """Whether its deployment still wants instances: then this one was only one too many, and may finish in peace."""


class Instances:
    """Key: the id of a live instance."""

    def __init__(self, context: Context, routes: Routes) -> None:
        self._context, self._routes = context, routes
        self._limits = limits(context.settings)
        self._scaling_limits = replace(self._limits, drain=timedelta(seconds=context.settings.scale_down_drain_timeout))
        self._probed_at: dict[str, float] = {}
        self.controller: Controller[str] = Controller(
            "instances", self.reconcile, self.keys, workers=WORKERS, resync=context.settings.resync
        )

    async def keys(self) -> Sequence[str]:
        """Every instance that has, or may have, something running."""
        return await self._context.db.run(instances.live_ids)

    async def reconcile(self, instance_id: str) -> float | None:
        """One pass; returns the seconds until the next, None when the instance has ended."""
        subject = await self._context.db.run(lambda tx: _load(tx, instance_id))
        if subject is None or not subject.instance.is_live:
            self._probed_at.pop(instance_id, None)
            return None
        try:
            if self._is_unplaced(subject):
                placed = await self._place(subject)
                if placed is None:
                    return PLACE_LOOK
                subject = replace(subject, instance=placed)
            silent = placing.silence(self._context.fleet.clusters, subject.instance.cluster_id)
            if silent:
                await self._note(subject.instance, silent)
                return SILENT_LOOK
            sight = await self._look(subject)
            bounds = self._scaling_limits if subject.deployed else self._limits
            following = step(subject.instance, sight, self._context.now(), limits=bounds)
            return None if following is None else await self._do(subject, sight, following)
        except Stale:  # somebody wrote it while we looked: look again
            return 0.0
        except BackendError as error:
            await self._note(subject.instance, str(error))
            raise

    def _is_unplaced(self, subject: Subject) -> bool:
        """Whether it waits for a cluster; also one whose cluster was lost before it was seen to start there."""
        instance = subject.instance
        if instance.status is not S.PENDING or not instance.wanted or instance.failure is not None:
            return False
        cluster = self._context.fleet.clusters.get(instance.cluster_id)
        return not instance.cluster_id or cluster is None or cluster.is_lost

    async def _place(self, subject: Subject) -> Instance | None:
        """The instance in its cluster, recorded as being there before anything is launched; None while it waits."""
        instance, version, fleet = subject.instance, subject.version, self._context.fleet
        if version is None:
            return None
        only = await fleet.holders(version.definition.container_image or "")

        def write(tx: Transaction) -> Instance | str:
            found = placing.place(tx, instance, version, fleet.clusters, only=only)
            if isinstance(found, Waits):
                return found.reason
            after = replace(instance, cluster_id=found.cluster.id, detail="")
            instances.save(tx, after)
            return replace(after, revision=after.revision + 1)

        outcome = await self._context.db.run(write)
        if isinstance(outcome, Instance):
            return outcome
        await self._note(instance, outcome)
        return None

    async def _look(self, subject: Subject) -> Sight:
        instance, clusters = subject.instance, self._context.fleet.clusters
        cluster = clusters.get(instance.cluster_id)
        if cluster is None or cluster.is_lost:
            return Sight(Observation(Phase.ABSENT), lost=placing.lost_with(cluster))
        seen = (await self._backend(instance).observe([instance.id]))[instance.id]
        if instance.status is S.DRAINING:
            return Sight(seen, drained=self._is_drained(subject))
        if seen.phase is not Phase.RUNNING or seen.address is None or subject.version is None:
            return Sight(seen)
        if instance.failure is not None or not instance.wanted or not self._is_due(instance):
            return Sight(seen)
        problem = await self._context.probe(subject.version.definition.health, seen.address)
        self._probed_at[instance.id] = loop_now()
        return Sight(seen, probed=True, problem=problem)

    def _backend(self, instance: Instance) -> Backend:
        return self._context.fleet.backend(instance.cluster_id)

    def _is_due(self, instance: Instance) -> bool:
        """Whether to ask for its health: a ready one now and then, any other at every look."""
        last = self._probed_at.get(instance.id)
        if instance.status is not S.READY or last is None:
            return True
        return loop_now() - last >= self._context.settings.health_interval

    def _is_drained(self, subject: Subject) -> bool:
        instance = subject.instance
        published = self._routes.left_at(instance.version_id, instance.id, deleted=subject.version is None)
        return published is not None and self._context.load.is_drained(
            instance.version_id, instance.id, published=published, now=loop_now()
        )

    async def _do(self, subject: Subject, sight: Sight, following: Step) -> float | None:
        instance = subject.instance
        match following:
            case Launch():
                return await self._launch(subject)
            case Terminate(wait):
                await self._backend(instance).terminate(instance.id, grace=self._context.settings.stop_grace)
                return wait
            case Fail(failure):
                return await self._fail(instance, failure)
            case Become(status, detail):
                return await self._become(instance, sight.observation, status, detail)
            case Wait(seconds, detail):
                await self._note(instance, detail, sight.observation)
                return seconds
            case _ as never:
                assert_never(never)

    async def _launch(self, subject: Subject) -> float | None:
        instance = subject.instance
        if subject.version is None:
            return 0.0
        cluster = self._context.fleet.clusters.get(instance.cluster_id)
        if cluster is None:
            return 0.0
        request = launch_request(instance, subject.version, cluster)
        if isinstance(request, Failure):
            return await self._fail(instance, request)
        placing = entered(instance.phases, StartPhase.PLACING, self._context.now())
        nca_id, version_id, image, ring = instance.nca_id, instance.version_id, request.image, self._context.keyring
        sealed = await self._context.db.run(lambda tx: for_launch(tx, nca_id, version_id, image))
        try:
            request = replace(request, secrets=files_of(ring, sealed), logins=logins_of(ring, sealed))
        except Unavailable as error:
            return await self._fail(instance, Failure(FailureKind.START, error.message, permanent=True))
        await self._backend(instance).launch(request)
        if instance.status is S.PENDING:
            after = instance.to(S.STARTING, now=self._context.now())
            await self._save(instance, replace(after, phases=placing))
        return 0.0

    async def _fail(self, instance: Instance, failure: Failure) -> float | None:
        """Record the reason while it is known. A ready instance leaves its route with the same write."""
        now = self._context.now()
        after = instance.to(S.UNHEALTHY, now=now) if instance.status is S.READY else replace(instance, updated_at=now)
        log.warning("instance failed", instance=instance.id, version=instance.version_id, reason=failure.message)
        await self._save(instance, replace(after, failure=failure, detail=failure.message[:DETAIL_MAX]))
        return 0.0

    async def _become(self, instance: Instance, seen: Observation, status: S, detail: str) -> float | None:
        now = self._context.now()
        started = replace(instance, phases=phases_of(instance, seen, now))
        after = started.to(status, now=now, failure=instance.failure)
        await self._save(instance, replace(after, detail=detail[:DETAIL_MAX], address=seen.address or after.address))
        log.info(
            "instance", instance=instance.id, version=instance.version_id, status=status.value, was=instance.status
        )
        return 0.0

    async def _note(self, instance: Instance, detail: str, seen: Observation | None = None) -> None:
        after = replace(instance, detail=detail[:DETAIL_MAX])
        if seen is not None:
            phases = phases_of(instance, seen, self._context.now())
            after = replace(after, address=seen.address or instance.address, phases=phases)
        if after != instance:
            await self._save(instance, after)

    async def _save(self, before: Instance, after: Instance) -> None:
        """Write it, and what there is to be told of the change."""
        happened = event.of_change(before, after, now=self._context.now())

        def write(tx: Transaction) -> None:
            instances.save(tx, after)
            events.insert(tx, () if happened is None else (happened,))

        await self._context.db.run(write)
        self._context.hints.hint("version", after.version_id)
        if (before.status, before.failure) != (after.status, after.failure):
            self._context.hints.hint("deployment", after.deployment_id)


def limits(settings: ControllerSettings) -> Limits:
    """The settings that bound an instance's life."""
    return Limits(
        ready=timedelta(seconds=settings.ready_timeout),
        unhealthy=timedelta(seconds=settings.unhealthy_timeout),
        drain=timedelta(seconds=settings.drain_timeout),
    )


def phases_of(instance: Instance, seen: Observation, now: datetime) -> tuple[Mark, ...]:
    """The phases of its start, with the one that is seen now."""
    phase = _START_PHASES.get(seen.phase)
    return instance.phases if phase is None else entered(instance.phases, phase, now)


def _load(tx: Transaction, instance_id: str) -> Subject | None:
    instance = instances.get(tx, instance_id)
    if instance is None:
        return None
    version = functions.find(tx, instance.version_id)
    if version is None:
        return Subject(replace(instance, wanted=False), None)
    if instance.status is not S.DRAINING:
        return Subject(instance, version)
    deployment = deployments.get(tx, instance.deployment_id)
    deployed = deployment is not None and deployment.wanted is DeploymentWanted.UP and deployment.failed_at is None
    return Subject(instance, version, deployed)

"""The autoscaler: writes how many instances of each GPU specification are desired, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpufn.controllers.context import Context
from gpufn.model.deployment import Deployment, GpuSpecification
from gpufn.model.ids import DeploymentId, SpecificationId
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.scaling.demand import Demand, Watch, startup_time
from gpufn.scaling.load import Load
from gpufn.scaling.policy import Desired, Policy, decide
from gpufn.scaling.rules import RuleWatch, Seen
from gpufn.store import deployments, functions, instances
from gpufn.store.database import Transaction

log = get_logger("autoscaler")

RESYNC = 5.0
"""Seconds between two looks at a version whose load does not change."""
FULL_FOR = 30.0
"""Seconds for which a specification without room is passed over for the next in preferred order."""
PAUSE, PAUSE_QUEUED = 1.0, 0.25
"""Seconds between two decisions on a version that has instances; less while requests wait."""


@dataclass(frozen=True)
class Full:
    """There was no room for more than ``count`` instances of a specification; it is tried again at ``until``."""

    count: int
    until: float


@dataclass
class Past:
    """What is remembered of one version. ``present``: whether instances of it are desired."""

    watch: Watch
    rules: dict[SpecificationId, RuleWatch] = field(default_factory=dict)
    decided_at: float = float("-inf")
    present: bool = False
    full: dict[SpecificationId, Full] = field(default_factory=dict)

    def see(
        self, specs: Sequence[GpuSpecification], seen: Mapping[SpecificationId, Seen], *, queued: int, now: float
    ) -> None:
        """Take the state of every specification that has a configuration of its own; forget the others."""
        own = [spec for spec in specs if spec.autoscaling is not None]
        self.rules = {spec.id: self.rules.get(spec.id) or RuleWatch(now=now) for spec in own}
        for spec in own:
            self.rules[spec.id].see(spec, seen[spec.id], queued=queued, now=now)

    def take(self, wanted: Sequence[Desired], now: float) -> None:
        """Remember what was decided."""
        self.present = any(desired.count > 0 for desired in wanted)
        for desired in wanted:
            if desired.stepped:
                self.rules[desired.specification_id].stepped_at = now


@dataclass(frozen=True)
class Outcome:
    """What a pass over a deployed version changed; ``again``: seconds until time alone makes another one necessary."""

    deployment_id: DeploymentId
    changed: Sequence[Desired]
    again: float | None


class Autoscaler:
    """Key: the id of a version, which is how load is reported; one that is not deployed is passed over."""

    def __init__(self, context: Context) -> None:
        self._context = context
        idle = context.settings.idle_to_zero
        self._policy = Policy(window=min(Policy.window, idle), idle_to_zero=idle)
        self._past: dict[str, Past] = {}
        self.controller = Controller("autoscaler", self.reconcile, self.keys, resync=RESYNC)

    async def keys(self) -> set[str]:
        """Every deployed version, and those whose load is remembered."""
        deployed = await self._context.db.run(lambda tx: deployments.of_versions(tx, functions.ids(tx)).keys())
        return {*deployed, *self._past}

    async def reconcile(self, version_id: str) -> float | None:
        """One look; the next comes with a change of load or the resync."""
        now = loop_now()
        past = self._past.setdefault(version_id, Past(Watch(now=now)))
        load = self._context.load.load(version_id, now=now)
        past.watch.see(load, now=now)
        pause = _pause(past, load, now)
        if pause > 0:
            return pause
        past.decided_at = now
        outcome = await self._context.db.run(lambda tx: self._pass(tx, version_id, past, now))
        if outcome is None:
            self._past.pop(version_id, None)
            return None
        for desired in outcome.changed:
            log.info(
                "desired",
                version=version_id,
                specification=desired.specification_id,
                count=desired.count,
                reason=desired.reason,
            )
        if outcome.changed:
            self._context.hints.hint("deployment", outcome.deployment_id)
        return outcome.again

    def _pass(self, tx: Transaction, version_id: str, past: Past, now: float) -> Outcome | None:
        deployment = deployments.of_version(tx, version_id)
        if deployment is None or deployment.failed_at is not None:
            return None
        own = instances.of_deployment(tx, deployment.id)
        past.full = full(deployment.specifications, own, past.full, now)
        specs = tuple(_with_room(spec, past.full.get(spec.id)) for spec in deployment.specifications)
        seen = _seen(deployment, own, self._context.load.busy(version_id, now=now) or {})
        demand = past.watch.demand(
            startup=startup_time(own),
            present=any(spec.desired > 0 for spec in specs),
            window=self._policy.window,
            longest=self._policy.idle_to_zero,
            now=now,
        )
        past.see(specs, seen, queued=demand.load.queued, now=now)
        wanted = decide(specs, demand, seen=seen, watches=past.rules, now=now, policy=self._policy)
        past.take(wanted, now)
        present = {spec.id: spec.desired for spec in specs}
        changed = [d for d in wanted if d.count != present[d.specification_id]]
        for desired in changed:
            deployments.set_desired(tx, desired.specification_id, desired=desired.count, reason=desired.reason)
        return Outcome(deployment.id, changed, _until_due(specs, wanted, demand, self._policy))


def full(
    specs: Sequence[GpuSpecification], own: Sequence[Instance], before: Mapping[SpecificationId, Full], now: float
) -> dict[SpecificationId, Full]:
    """The specifications that cannot grow now, where others of the deployment can in their stead."""
    if len(specs) < 2:
        return {}
    found = {spec_id: one for spec_id, one in before.items() if one.until > now}
    for spec in specs:
        wanted = [i for i in own if i.specification_id == spec.id and i.is_live and i.wanted]
        placed = [i for i in wanted if not i.waits_for_room]
        if len(placed) < len(wanted):
            found[spec.id] = Full(len(placed), now + FULL_FOR)
    return found


def _with_room(spec: GpuSpecification, limit: Full | None) -> GpuSpecification:
    """The specification as if its maximum were what there is room for; its minimum is wanted all the same."""
    if limit is None:
        return spec
    return replace(spec, max_instances=max(spec.min_instances, min(spec.max_instances, limit.count)))


def _pause(past: Past, load: Load, now: float) -> float:
    """Seconds until the next decision is due. A request that waits where nothing runs is never kept waiting."""
    if load.queued and not past.present:
        return 0.0
    return past.decided_at + (PAUSE_QUEUED if load.queued else PAUSE) - now


def _until_due(
    specs: Sequence[GpuSpecification], wanted: Sequence[Desired], demand: Demand, policy: Policy
) -> float | None:
    """Seconds until time alone may change the decision: while requests wait, and until the idle time is over."""
    if demand.load.queued:
        return PAUSE
    if demand.load.idle_since is None:
        return None
    left = [
        policy.idle_timeout(spec) - demand.idle
        for spec, word in zip(specs, wanted, strict=True)
        if word.count > spec.min_instances == 0
    ]
    return max(min(left), PAUSE) if left else None


def _seen(deployment: Deployment, own: Sequence[Instance], busy: Mapping[str, int]) -> dict[SpecificationId, Seen]:
    """What each specification has: its ready instances, and what they serve."""
    found = {}
    for spec in deployment.specifications:
        ready = [i for i in own if i.specification_id == spec.id and i.wanted and i.status is InstanceStatus.READY]
        found[spec.id] = Seen(len(ready), sum(busy.get(i.id, 0) for i in ready))
    return found

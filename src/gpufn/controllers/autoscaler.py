"""The autoscaler: writes how many instances of each GPU specification are desired, and why."""

from __future__ import annotations

from collections.abc import Sequence

from gpufn.controllers.context import Context
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.scaling.policy import Desired, Peak, Policy, decide
from gpufn.store import deployments, functions
from gpufn.store.database import Transaction

log = get_logger("autoscaler")

RESYNC = 5.0
"""Seconds between two looks at a version whose load does not change."""


class Autoscaler:
    """Key: the id of a version, which is how load is reported; one that is not deployed is passed over."""

    def __init__(self, context: Context) -> None:
        self._context = context
        idle = context.settings.idle_to_zero
        self._policy = Policy(window=min(Policy.window, idle), idle_to_zero=idle)
        self._peaks: dict[str, Peak] = {}
        self.controller = Controller("autoscaler", self.reconcile, self.keys, resync=RESYNC)

    async def keys(self) -> set[str]:
        """Every deployed version, and those whose load is remembered."""
        deployed = await self._context.db.run(lambda tx: deployments.of_versions(tx, functions.ids(tx)).keys())
        return {*deployed, *self._peaks}

    async def reconcile(self, version_id: str) -> float | None:
        """One look; the next comes with a change of load or the resync."""
        now = loop_now()
        deployment_id, changed = await self._context.db.run(lambda tx: self._pass(tx, version_id, now))
        if deployment_id is None:
            self._peaks.pop(version_id, None)
            return None
        for desired in changed:
            log.info("desired", version=version_id, specification=desired.specification_id, count=desired.count)
        if changed:
            self._context.hints.hint("deployment", deployment_id)
        return None

    def _pass(self, tx: Transaction, version_id: str, now: float) -> tuple[str | None, Sequence[Desired]]:
        deployment = deployments.of_version(tx, version_id)
        if deployment is None or deployment.failed_at is not None:
            return None, ()
        load = self._context.load.load(version_id, now=now)
        peak = self._peaks.setdefault(version_id, Peak(self._policy.window, now=now))
        wanted = decide(
            deployment.specifications,
            load,
            peak=peak.add(load.queued + load.in_flight, now=now),
            settled=peak.is_settled(now=now),
            now=now,
            policy=self._policy,
        )
        present = {spec.id: spec.desired for spec in deployment.specifications}
        changed = [d for d in wanted if d.count != present[d.specification_id]]
        for desired in changed:
            deployments.set_desired(tx, desired.specification_id, desired=desired.count, reason=desired.reason)
        return deployment.id, changed

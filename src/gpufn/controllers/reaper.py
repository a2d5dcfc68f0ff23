"""The reaper: ends what runs without being recorded, and forgets what ended long ago."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from gpufn.compute.backend import Backend, BackendError
from gpufn.controllers.context import Context
from gpufn.controllers.forgetting import forget_results, forget_strays
from gpufn.model.ids import InstanceId
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.store import deployments, events, instances, tasks
from gpufn.store.database import Transaction

log = get_logger("reaper")

ORPHANS, ENDED, EVENTS, RESULTS, STRAYS = "orphans", "ended", "events", "results", "strays"
BATCH = 100
"""Instances handled in one pass."""
MORE = 1.0
"""Seconds until the next pass when one was not enough."""

STRAYS_EVERY = 1800.0
"""Seconds between two looks for stray bodies."""


class Reaper:
    """A key for every chore."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._strays_due = float("-inf")
        self.controller = Controller("reaper", self.reconcile, self.keys, workers=1, resync=context.settings.resync)

    async def keys(self) -> Sequence[str]:
        """Every chore."""
        return (ORPHANS, ENDED, EVENTS, RESULTS, STRAYS)

    async def reconcile(self, chore: str) -> float | None:
        """One bounded round of a chore."""
        chores = {
            ORPHANS: self._orphans,
            ENDED: self._ended,
            EVENTS: self._events,
            RESULTS: self._results,
            STRAYS: self._strays,
        }
        return await chores[chore]()

    async def _orphans(self) -> float | None:
        """Of every cluster; one that does not answer holds up no other."""
        counts = []
        for cluster_id, backend in self._context.fleet.everywhere():
            try:
                counts.append(await end_strangers(self._context, cluster_id, backend, limit=BATCH))
            except BackendError as error:
                log.warning("could not look for instances that nobody wants", cluster=cluster_id, error=str(error))
        return MORE if any(count > BATCH for count in counts) else None

    async def _ended(self) -> float | None:
        before = self._context.now() - timedelta(seconds=self._context.settings.keep_ended)
        old = await self._context.db.run(lambda tx: forgettable(tx, before))
        for instance_id in old[:BATCH]:
            await self._forget(instance_id)
        return MORE if len(old) > BATCH else None

    async def _events(self) -> float | None:
        settings = self._context.settings
        before = self._context.now() - timedelta(seconds=settings.keep_events)
        done = await self._context.db.run(
            lambda tx: events.forget(tx, before=before, keep=settings.events_max, batch=BATCH)
        )
        return MORE if done == BATCH else None

    async def _results(self) -> float | None:
        return MORE if await forget_results(self._context) else None

    async def _strays(self) -> float | None:
        """Seldom: it looks at every object."""
        if loop_now() >= self._strays_due:
            self._strays_due = loop_now() + STRAYS_EVERY
            await forget_strays(self._context)
        return None

    async def _forget(self, instance_id: InstanceId) -> None:
        """The row goes last: a crash leaves something to find. One that cannot be forgotten holds up no other."""
        try:
            await self._forget_at(instance_id)
        except BackendError as error:
            log.warning("could not forget an instance; later again", instance=instance_id, error=str(error))
            return
        await self._context.db.run(lambda tx: instances.delete(tx, instance_id))

    async def _forget_at(self, instance_id: InstanceId) -> None:
        """Where it was; what was in a cluster that is not registered any more is forgotten with it."""
        instance = await self._context.db.run(lambda tx: instances.get(tx, instance_id))
        fleet = self._context.fleet
        if instance is not None and fleet.clusters.get(instance.cluster_id) is not None:
            await fleet.backend(instance.cluster_id).forget(instance_id)


async def end_strangers(context: Context, cluster_id: str, backend: Backend, *, limit: int) -> int:
    """End what runs in a cluster without being recorded as live there, at most ``limit``; returns how many there are.

    Listed first, compared after: an instance is always recorded before it is launched.
    """
    running = await backend.list()
    live = set(await context.db.run(lambda tx: live_in(tx, cluster_id, context.fleet.clusters.local.id)))
    strangers = [i for i in running if i not in live]
    for instance_id in strangers[:limit]:
        log.warning("ending an instance that nobody wants", instance=instance_id, cluster=cluster_id)
        await backend.terminate(instance_id, grace=context.settings.stop_grace)
    return len(strangers)


def live_in(tx: Transaction, cluster_id: str, local_id: str) -> list[InstanceId]:
    """The instances, tasks' too, that are recorded as live in a cluster."""
    names = (cluster_id, "") if cluster_id == local_id else (cluster_id,)
    return [*instances.live_in(tx, names), *tasks.live_in(tx, names)]


def forgettable(tx: Transaction, before: datetime) -> list[InstanceId]:
    """Instances that ended before ``before``; those of a deployment in ERROR are kept, they are its ``healthInfo``."""
    found = []
    for instance_id in instances.ended_before(tx, before):
        instance = instances.get(tx, instance_id)
        deployment = deployments.get(tx, instance.deployment_id) if instance is not None else None
        if deployment is None or deployment.failed_at is None:
            found.append(instance_id)
            if len(found) > BATCH:
                break
    return found

"""Clusters: reach those that are registered, watch whether they answer, give up those that do not.

A pass is a look at one cluster. It opens the cluster's backend when there is none or its connection has changed, asks
what runs there, and writes what that says about its health. When a cluster is given up its instances are hinted: they
fail for that reason, and others take their place elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.compute.backend import Backend, BackendError, Files
from gpufn.controllers.cluster_plan import Look, is_news, seen
from gpufn.controllers.context import Context
from gpufn.controllers.reaper import end_strangers
from gpufn.model.cluster import Cluster, ClusterKind, Connection, Gpu, Health
from gpufn.model.errors import Unavailable
from gpufn.model.secret import cluster_place
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.runtime.log import get_logger
from gpufn.store import clusters, instances, secrets, tasks
from gpufn.store.database import Transaction

log = get_logger("clusters")

WRITE_EVERY = 30.0
"""Seconds between two records that a cluster goes on answering."""
STRANGERS_MAX = 100
"""Instances ended at once in a cluster that came back."""
PATIENCE = 10.0
"""Seconds that a cluster may take to say what runs there."""


@dataclass(frozen=True)
class Opened:
    """With what a cluster's backend was opened: another one is opened when that changes."""

    connection: Connection | None
    gpus: tuple[Gpu, ...]
    secrets: Files


class ClusterLoop:
    """Key: the id of a cluster that is registered, or reached."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._opened: dict[str, Opened] = {}
        self._answered_at: dict[str, float] = {}
        self.controller: Controller[str] = Controller(
            "clusters", self.reconcile, self.keys, workers=16, resync=context.settings.resync
        )

    async def keys(self) -> set[str]:
        """Every registered cluster, and those that are to be let go of."""
        found = await self._context.db.run(clusters.every)
        self._context.fleet.learn(found)
        return {*(c.id for c in found if c.kind is not ClusterKind.LOCAL), *self._opened}

    async def reconcile(self, cluster_id: str) -> float | None:
        """One look; returns the seconds until the next."""
        cluster, files = await self._read(cluster_id)
        if cluster is None or cluster.kind is not ClusterKind.DOCKER:
            await self._let_go(cluster_id)
            return None
        look = await self._look(cluster, files)
        now, lost_after = self._context.now(), self._context.settings.cluster_lost_after
        after = seen(cluster.health, look, now, lost_after=lost_after)
        if is_news(cluster.health, after, every=WRITE_EVERY):
            await self._write(cluster, after)
        return self._context.settings.cluster_look

    async def _read(self, cluster_id: str) -> tuple[Cluster | None, Files]:
        def read(tx: Transaction) -> tuple[Cluster | None, Files]:
            sealed = secrets.in_place(tx, cluster_place(cluster_id))
            opened = (self._context.keyring.open(one) for one in sealed)
            return clusters.get(tx, cluster_id), {one.name: str(one.value) for one in opened}

        return await self._context.db.run(read)

    async def _look(self, cluster: Cluster, files: Files) -> Look:
        first = self._answered_at.setdefault(cluster.id, loop_now())
        try:
            async with asyncio.timeout(PATIENCE):
                backend = await self._reach(cluster, files)
                strangers = await self._strangers(cluster, backend)
        except TimeoutError:
            return Look(f"it did not answer within {PATIENCE:g} s", loop_now() - first)
        except (BackendError, Unavailable) as error:
            return Look(str(error), loop_now() - first)
        self._answered_at[cluster.id] = loop_now()
        return Look(strangers=strangers)

    async def _reach(self, cluster: Cluster, files: Files) -> Backend:
        """The cluster's backend, opened anew if what it was opened with has changed."""
        fleet, wanted = self._context.fleet, Opened(cluster.connection, cluster.gpus, files)
        if fleet.reaches(cluster.id) and self._opened.get(cluster.id, wanted) == wanted:
            return fleet.backend(cluster.id)
        await self._let_go(cluster.id)
        backend = await self._context.connect(cluster, files)
        self._opened[cluster.id] = wanted
        fleet.attach(cluster.id, backend)
        log.info("cluster reached", cluster=cluster.name)
        return backend

    async def _strangers(self, cluster: Cluster, backend: Backend) -> int:
        """Only a cluster that was given up is searched here; of others the reaper takes care."""
        if not cluster.is_lost:
            await backend.list()
            return 0
        return await end_strangers(self._context, cluster.id, backend, limit=STRANGERS_MAX)

    async def _let_go(self, cluster_id: str) -> None:
        self._opened.pop(cluster_id, None)
        backend = self._context.fleet.detach(cluster_id)
        if backend is not None:
            try:
                await backend.close(terminate=False)
            except BackendError as error:
                log.warning("a cluster could not be let go of", cluster=cluster_id, error=str(error))

    async def _write(self, cluster: Cluster, after: Health) -> None:
        def write(tx: Transaction) -> tuple[list[Cluster], Sequence[str], Sequence[str]]:
            clusters.set_health(tx, cluster.id, after)
            return clusters.every(tx), instances.live_in(tx, (cluster.id,)), tasks.held_by(tx, (cluster.id,))

        known, running, busy = await self._context.db.run(write)
        self._context.fleet.learn(known)
        if (cluster.is_lost, cluster.answers) == (after.lost_at is not None, after.failing_at is None):
            return
        log.warning(
            "cluster",
            cluster=cluster.name,
            answers=after.failing_at is None,
            lost=after.lost_at is not None,
            problem=after.problem,
        )
        for instance_id in running:
            self._context.hints.hint("instance", instance_id)
        for task_id in busy:
            self._context.hints.hint("task", task_id)

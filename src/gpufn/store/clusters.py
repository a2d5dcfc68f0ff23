"""Clusters. Their definition and mode are written by the API, and at the start for the local one; what is observed of
them by ``controllers/clusters``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, Clusters, Health
from gpufn.store import instances as stored_instances, tasks as stored_tasks
from gpufn.store.cluster_tables import clusters as table
from gpufn.store.tables import instances
from gpufn.store.task_tables import tasks

_OBSERVED = tuple(f.name for f in fields(Health))
_MODE = ("mode", "mode_at")


def every(tx: sa.Connection) -> list[Cluster]:
    """All of them, the local one first, then by name."""
    query = table.select().order_by((table.c.kind != ClusterKind.LOCAL), table.c.name, table.c.id)
    return [_load(row) for row in tx.execute(query)]


def get(tx: sa.Connection, cluster_id: str) -> Cluster | None:
    """The cluster of that id."""
    row = tx.execute(table.select().where(table.c.id == cluster_id)).first()
    return None if row is None else _load(row)


def insert(tx: sa.Connection, cluster: Cluster) -> None:
    """Record a new one."""
    tx.execute(table.insert().values(_row(cluster)))


def define(tx: sa.Connection, cluster: Cluster) -> None:
    """Write its definition anew; mode and health stay as they are."""
    row = {name: value for name, value in _row(cluster).items() if name not in (*_OBSERVED, *_MODE)}
    tx.execute(table.update().where(table.c.id == cluster.id).values(row))


def set_mode(tx: sa.Connection, cluster_id: str, mode: ClusterMode, now: datetime) -> None:
    """What its operator wants of it."""
    tx.execute(table.update().where(table.c.id == cluster_id).values(mode=mode, mode_at=now))


def set_health(tx: sa.Connection, cluster_id: str, health: Health) -> None:
    """What is observed of it."""
    tx.execute(table.update().where(table.c.id == cluster_id).values({n: getattr(health, n) for n in _OBSERVED}))


def delete(tx: sa.Connection, cluster_id: str) -> None:
    """Forget it."""
    tx.execute(table.delete().where(table.c.id == cluster_id))


def held(tx: sa.Connection, clusters: Clusters) -> dict[str, Counter[str]]:
    """The devices in use, by cluster and by GPU; of ``CPU`` each task holds one."""
    found: dict[str, Counter[str]] = {}
    for cluster_id, gpu, kind, count in stored_instances.held(tx):
        shape = clusters.shape(gpu, kind)
        units = shape[1].gpu_count if shape is not None else 1
        found.setdefault(cluster_id or clusters.local.id, Counter())[gpu] += units * count
    for cluster_id, gpu, units, _ in stored_tasks.held(tx):
        found.setdefault(cluster_id or clusters.local.id, Counter())[gpu] += units
    return found


def live_counts(tx: sa.Connection, clusters: Clusters) -> Counter[str]:
    """How many instances live in each, tasks' too."""
    found: Counter[str] = Counter()
    for cluster_id, _, _, count in (*stored_instances.held(tx), *stored_tasks.held(tx)):
        found[cluster_id or clusters.local.id] += count
    return found


def ensure_local(tx: sa.Connection, cluster: Cluster) -> None:
    """Record this machine as it is at this start. Under another name than before it still is the same machine, so what
    runs on it is handed on.
    """
    for other in every(tx):
        if other.kind is ClusterKind.LOCAL and other.id != cluster.id:
            for running in (instances, tasks):
                tx.execute(running.update().where(running.c.cluster_id == other.id).values(cluster_id=cluster.id))
            delete(tx, other.id)
    if get(tx, cluster.id) is None:
        insert(tx, cluster)
    else:
        define(tx, cluster)


def _row(cluster: Cluster) -> dict[str, Any]:
    row = {f.name: getattr(cluster, f.name) for f in fields(cluster) if f.name != "health"}
    return row | {name: getattr(cluster.health, name) for name in _OBSERVED} | {"details": dict(cluster.details)}


def _load(row: sa.Row[Any]) -> Cluster:
    health = Health(**{name: row._mapping[name] for name in _OBSERVED})
    return Cluster(**{f.name: row._mapping[f.name] for f in fields(Cluster) if f.name != "health"}, health=health)

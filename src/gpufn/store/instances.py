"""Instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from gpufn.model.errors import Stale
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.store.tables import instances as table

SERVING = (InstanceStatus.READY, InstanceStatus.UNHEALTHY)
ENDED = (InstanceStatus.TERMINATED, InstanceStatus.ERRORED)
_OF_VERSION = (
    table.select().where(table.c.version_id == sa.bindparam("version")).order_by(table.c.created_at, table.c.id)
)


# Asked at every pass over the queue of tasks, and made once.
_HELD = (
    sa.select(table.c.cluster_id, table.c.gpu, table.c.instance_type, sa.func.count())
    .where(table.c.status.not_in(ENDED), sa.or_(table.c.cluster_id != "", table.c.status != InstanceStatus.PENDING))
    .group_by(table.c.cluster_id, table.c.gpu, table.c.instance_type)
)
_COUNTED = (table.c.specification_id, table.c.cluster_id, table.c.instance_type, table.c.wanted, table.c.status)
_LIVE_COUNTS = (
    sa.select(*_COUNTED, sa.func.count())
    .where(table.c.status.not_in(ENDED), table.c.gpu == sa.bindparam("name"))
    .group_by(*_COUNTED)
)


def insert(tx: sa.Connection, instance: Instance) -> None:
    """Record a new instance."""
    tx.execute(table.insert(), _row(instance))


def get(tx: sa.Connection, instance_id: str) -> Instance | None:
    """The instance of that id."""
    row = tx.execute(table.select().where(table.c.id == instance_id)).first()
    return None if row is None else _load(row)


def of_deployment(tx: sa.Connection, deployment_id: str) -> list[Instance]:
    """Every recorded instance of a deployment, ended ones too, oldest first."""
    return _all(tx, table.c.deployment_id == deployment_id)


def of_version(tx: sa.Connection, version_id: str) -> list[Instance]:
    """Every recorded instance of a version, ended ones too, oldest first."""
    return [_load(row) for row in tx.execute(_OF_VERSION, {"version": version_id})]


def of_versions(tx: sa.Connection, version_ids: Iterable[str]) -> dict[str, list[Instance]]:
    """The recorded instances of many versions, by version id."""
    wanted = list(version_ids)
    found: dict[str, list[Instance]] = {}
    for start in range(0, len(wanted), 500):  # SQLite bounds the number of variables in a statement
        for instance in _all(tx, table.c.version_id.in_(wanted[start : start + 500])):
            found.setdefault(instance.version_id, []).append(instance)
    return found


def live_ids(tx: sa.Connection) -> Sequence[InstanceId]:
    """The id of every instance that has, or may have, something running."""
    found = tx.execute(sa.select(table.c.id).where(table.c.status.not_in(ENDED))).scalars().all()
    return [InstanceId(i) for i in found]


def live_in(tx: sa.Connection, cluster_ids: Sequence[str]) -> Sequence[InstanceId]:
    """Those that were placed in one of the clusters; an empty id is the local one's."""
    found = tx.execute(sa.select(table.c.id).where(table.c.status.not_in(ENDED), table.c.cluster_id.in_(cluster_ids)))
    return [InstanceId(i) for i in found.scalars()]


def deployments_in(tx: sa.Connection, cluster_ids: Sequence[str]) -> Sequence[str]:
    """The deployments that have live instances in one of the clusters."""
    query = sa.select(table.c.deployment_id).distinct()
    query = query.where(table.c.status.not_in(ENDED), table.c.cluster_id.in_(cluster_ids))
    return tx.execute(query).scalars().all()


def held(tx: sa.Connection) -> list[tuple[str, str, str, int]]:
    """What live instances hold: (cluster, GPU, instance type, how many), of those that were placed."""
    return [(cluster, gpu, kind, count) for cluster, gpu, kind, count in tx.execute(_HELD)]


def live_version_ids(tx: sa.Connection) -> Sequence[str]:
    """The versions, existing or not, that live instances name."""
    return tx.execute(sa.select(table.c.version_id).distinct().where(table.c.status.not_in(ENDED))).scalars().all()


def live_since(tx: sa.Connection, moment: datetime) -> list[Instance]:
    """Those that live, and those that ended after ``moment``."""
    return _all(tx, sa.or_(table.c.status.not_in(ENDED), table.c.ended_at > moment))


def live_deployment_ids(tx: sa.Connection) -> Sequence[str]:
    """The deployments, existing or not, that live instances name."""
    return tx.execute(sa.select(table.c.deployment_id).distinct().where(table.c.status.not_in(ENDED))).scalars().all()


class Counts(NamedTuple):
    """The live instances of one GPU specification."""

    instance_type: str
    wanted: int = 0
    serving: int = 0
    """Those of them that are up, and so have their GPUs."""
    leaving: int = 0
    """Not wanted any more."""

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            other.instance_type,
            self.wanted + other.wanted,
            self.serving + other.serving,
            self.leaving + other.leaving,
        )


def live_counts(tx: sa.Connection, gpu: str) -> dict[tuple[str, str], Counts]:
    """By GPU specification and cluster, what lives on ``gpu``."""
    found: dict[tuple[str, str], Counts] = {}
    for spec_id, cluster_id, kind, wanted, status, count in tx.execute(_LIVE_COUNTS, {"name": gpu}):
        serving = count * (wanted and status in SERVING)
        more = Counts(kind, count * wanted, serving, count * (not wanted))
        found[spec_id, cluster_id] = found.get((spec_id, cluster_id), Counts(kind)).plus(more)
    return found


def save(tx: sa.Connection, instance: Instance) -> None:
    """Write it, if nobody has since it was read; raises Stale otherwise."""
    done = tx.execute(
        table.update()
        .where(table.c.id == instance.id, table.c.revision == instance.revision)
        .values(_row(instance) | {"revision": instance.revision + 1})
    )
    if done.rowcount == 0:
        raise Stale(f"instance {instance.id} was changed meanwhile")


def retire(tx: sa.Connection, instance_ids: Iterable[str]) -> None:
    """Mark instances as not wanted any more."""
    for instance_id in instance_ids:
        tx.execute(
            table.update()
            .where(table.c.id == instance_id, table.c.wanted)
            .values(wanted=False, revision=table.c.revision + 1)
        )


def ended_before(tx: sa.Connection, moment: datetime) -> Sequence[InstanceId]:
    """Instances that ended before ``moment``."""
    found = tx.execute(sa.select(table.c.id).where(table.c.ended_at < moment)).scalars().all()
    return [InstanceId(i) for i in found]


def delete(tx: sa.Connection, instance_id: str) -> None:
    """Forget an instance that has ended."""
    tx.execute(table.delete().where(table.c.id == instance_id))


def _row(instance: Instance) -> dict[str, Any]:
    return {f.name: getattr(instance, f.name) for f in fields(instance)}


def _load(row: sa.Row[Any]) -> Instance:
    return Instance(**row._mapping)


def _all(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Instance]:
    query = table.select().where(condition).order_by(table.c.created_at, table.c.id)
    return [_load(row) for row in tx.execute(query)]

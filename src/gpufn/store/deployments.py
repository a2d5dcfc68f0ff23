"""Deployments with their GPU specifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.errors import Stale
from gpufn.store.tables import deployments as table, gpu_specifications as specs

_OF_VERSION = table.select().where(table.c.version_id == sa.bindparam("version"))

_MINIMUMS = (
    sa.select(specs.c.id, specs.c.instance_type, specs.c.min_instances)
    .join(table, table.c.id == specs.c.deployment_id)
    .where(specs.c.gpu == sa.bindparam("name"), specs.c.min_instances > 0)
    .where(table.c.wanted == DeploymentWanted.UP, table.c.failed_at.is_(None))
)


def insert(tx: sa.Connection, deployment: Deployment) -> None:
    """Record a new deployment; the version must not have one."""
    tx.execute(table.insert(), {c.name: getattr(deployment, c.name) for c in table.columns})
    for position, spec in enumerate(deployment.specifications):
        row = {c.name: getattr(spec, c.name) for c in specs.columns if c.name not in ("deployment_id", "position")}
        tx.execute(specs.insert(), row | {"deployment_id": deployment.id, "position": position})


def get(tx: sa.Connection, deployment_id: str) -> Deployment | None:
    """The deployment of that id."""
    return _first(tx, table.c.id == deployment_id)


def of_version(tx: sa.Connection, version_id: str) -> Deployment | None:
    """The deployment of a version, if it has one."""
    found = load(tx, _OF_VERSION, {"version": version_id})
    return found[0] if found else None


def of_versions(tx: sa.Connection, version_ids: Iterable[str]) -> dict[str, Deployment]:
    """The deployments of many versions, by version id."""
    wanted = list(version_ids)
    found: dict[str, Deployment] = {}
    for start in range(0, len(wanted), 500):  # SQLite bounds the number of variables in a statement
        query = table.select().where(table.c.version_id.in_(wanted[start : start + 500]))
        found |= {d.version_id: d for d in load(tx, query)}
    return found


def ids(tx: sa.Connection) -> Sequence[str]:
    """The id of every deployment."""
    return tx.execute(sa.select(table.c.id)).scalars().all()


def minimums(tx: sa.Connection, gpu: str) -> dict[str, tuple[str, int]]:
    """By GPU specification that wants instances on ``gpu`` at all times: its instance type, and how many."""
    found = tx.execute(_MINIMUMS, {"name": gpu})
    return {spec_id: (instance_type, minimum) for spec_id, instance_type, minimum in found}


def save(tx: sa.Connection, deployment: Deployment) -> Deployment:
    """Write what was asked for and what was observed, if nobody has since it was read; raises Stale otherwise.

    The specifications' bounds and autoscaling are written too; ``desired`` is not, it belongs to ``set_desired``.
    """
    done = tx.execute(
        table.update()
        .where(table.c.id == deployment.id, table.c.revision == deployment.revision)
        .values(
            wanted=deployment.wanted,
            updated_at=deployment.updated_at,
            activated_at=deployment.activated_at,
            failed_at=deployment.failed_at,
            failure=deployment.failure,
            revision=deployment.revision + 1,
        )
    )
    if done.rowcount == 0:
        raise Stale(f"deployment {deployment.id} was changed meanwhile")
    for spec in deployment.specifications:
        tx.execute(
            specs.update()
            .where(specs.c.id == spec.id)
            .values(
                min_instances=spec.min_instances,
                max_instances=spec.max_instances,
                max_request_concurrency=spec.max_request_concurrency,
                autoscaling=spec.autoscaling,
            )
        )
    return replace(deployment, revision=deployment.revision + 1)


def set_desired(tx: sa.Connection, specification_id: str, *, desired: int, reason: str) -> None:
    """The autoscaler's word on one specification."""
    tx.execute(specs.update().where(specs.c.id == specification_id).values(desired=desired, desired_reason=reason))


def delete(tx: sa.Connection, deployment_id: str) -> None:
    """Remove a deployment and its specifications. Its instances are retired by the deployments controller."""
    tx.execute(table.delete().where(table.c.id == deployment_id))


def _first(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> Deployment | None:
    found = load(tx, table.select().where(condition))
    return found[0] if found else None


def load(tx: sa.Connection, query: sa.Select[Any], parameters: Mapping[str, object] | None = None) -> list[Deployment]:
    """The deployments that ``query`` selects, in its order, with their specifications."""
    rows = tx.execute(query, parameters).all()
    by_deployment: dict[str, list[GpuSpecification]] = {row.id: [] for row in rows}
    wanted = list(by_deployment)
    for start in range(0, len(wanted), 500):
        chosen = specs.select().where(specs.c.deployment_id.in_(wanted[start : start + 500]))
        for spec in tx.execute(chosen.order_by(specs.c.position)):
            by_deployment[spec.deployment_id].append(_specification(spec))
    return [Deployment(**row._mapping, specifications=tuple(by_deployment[row.id])) for row in rows]


def _specification(row: sa.Row[Any]) -> GpuSpecification:
    fields = {name: value for name, value in row._mapping.items() if name not in ("deployment_id", "position")}
    return GpuSpecification(**fields)

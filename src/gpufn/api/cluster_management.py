"""Clusters of an account: register, list, change, remove, put into maintenance (clusters page, sections 2.1 to 2.3).

The database holds what is wanted; ``controllers/clusters`` connects, watches and lets go. What was written is known to
the whole process when the answer leaves, so that nothing is placed in a cluster that was just cordoned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Path, Response

from gpufn.api import cluster_rules
from gpufn.api.across import AccountPath
from gpufn.api.context import Context, Ctx
from gpufn.api.security import Caller
from gpufn.auth.access import require_scope
from gpufn.model.access import SUPER_SCOPE, Principal
from gpufn.model.cluster import Cluster, ClusterKind, Clusters
from gpufn.model.cluster_catalog import ATTRIBUTES, CAPABILITIES, REGIONS, SOURCES
from gpufn.model.errors import Conflict, Forbidden, Invalid, NotFound
from gpufn.model.secret import Secret, cluster_place
from gpufn.store import accounts, clusters, instances, secrets, tasks
from gpufn.store.database import Transaction
from gpufn.wire.cluster_registration import (
    ClusterCreated,
    ClusterCreateRequest,
    ClusterUpdateRequest,
    ClusterVersionsResponse,
    ModeRequest,
    RegisteredClusterDto,
    TlsFiles,
)
from gpufn.wire.scalars import Uuid

ClusterPath = Annotated[Uuid, Path(alias="clusterId")]
MAX_CLUSTERS = 200
"""Clusters of one installation: each is asked every few seconds whether it is there."""


async def create_cluster(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, body: ClusterCreateRequest
) -> ClusterCreated:
    """Register a cluster. It is NOT_READY until it was reached."""
    _require_operator(caller, body)

    def write(tx: Transaction) -> Cluster:
        require_account(tx, caller, nca_id)
        present = clusters.every(tx)
        if len(present) >= MAX_CLUSTERS:
            raise Invalid(f"there are {MAX_CLUSTERS} clusters, which is the limit; remove some first")
        cluster = cluster_rules.created(body, nca_id, present, context.now())
        clusters.insert(tx, cluster)
        _keep_tls(tx, context, cluster, body.docker.tls if body.docker is not None else None)
        return cluster

    cluster = await context.db.run(write)
    await _learn(context, cluster.id)
    return ClusterCreated(cluster_id=cluster.id, cluster_group_id=cluster.group_id)


async def list_clusters(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> tuple[RegisteredClusterDto, ...]:
    """The clusters that the account owns."""

    def read(tx: Transaction) -> tuple[RegisteredClusterDto, ...]:
        require_account(tx, caller, nca_id)
        every = clusters.every(tx)
        return _shown(tx, context, every, [c for c in every if c.nca_id == nca_id])

    return await context.db.run(read)


async def get_cluster(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, cluster_id: ClusterPath
) -> RegisteredClusterDto:
    """One cluster; 404 when there is none, 409 when another account owns it."""

    def read(tx: Transaction) -> RegisteredClusterDto:
        found = _owned(tx, caller, nca_id, cluster_id)
        return _shown(tx, context, clusters.every(tx), [found])[0]

    return await context.db.run(read)


async def update_cluster(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, cluster_id: ClusterPath, body: ClusterUpdateRequest
) -> Response:
    """Replace all that may change of a cluster."""
    _require_operator(caller, body)

    def write(tx: Transaction) -> None:
        found = _owned(tx, caller, nca_id, cluster_id)
        every = clusters.every(tx)
        after = cluster_rules.updated(found, body, every, _live(tx, found, every))
        clusters.define(tx, after)
        _keep_tls(tx, context, after, body.docker.tls if body.docker is not None else None)

    await context.db.run(write)
    await _learn(context, cluster_id)
    return Response(status_code=200)


async def delete_cluster(caller: Caller, context: Ctx, *, nca_id: AccountPath, cluster_id: ClusterPath) -> Response:
    """Forget a cluster in which nothing runs."""

    def write(tx: Transaction) -> None:
        found = _owned(tx, caller, nca_id, cluster_id)
        if found.kind is ClusterKind.LOCAL:
            raise Invalid(f"cluster '{found.name}' is the machine that gpufn runs on and cannot be removed", status=412)
        live = [instance_id for _, _, instance_id in _live(tx, found, clusters.every(tx))]
        if live:
            raise Conflict(
                f"cluster '{found.name}' has active instances: {', '.join(live[:5])}; drain it first: `gpufn cluster "
                f"maintenance {found.name} --drain`"
            )
        clusters.delete(tx, cluster_id)
        secrets.delete(tx, cluster_place(cluster_id))

    await context.db.run(write)
    await _learn(context, cluster_id)
    return Response(status_code=200)


async def set_cluster_mode(
    caller: Caller, context: Ctx, *, nca_id: AccountPath, cluster_id: ClusterPath, body: ModeRequest
) -> RegisteredClusterDto:
    """Put a cluster into maintenance (CORDON, CORDON_AND_DRAIN), or back (READY); also the local one."""

    def write(tx: Transaction) -> tuple[RegisteredClusterDto, Sequence[str]]:
        found = _owned(tx, caller, nca_id, cluster_id)
        if found.mode is not body.mode:
            clusters.set_mode(tx, cluster_id, body.mode, context.now())
        after = clusters.get(tx, cluster_id) or found
        every = clusters.every(tx)
        concerned = instances.deployments_in(tx, _names(found, every))
        return _shown(tx, context, every, [after])[0], concerned

    answer, concerned = await context.db.run(write)
    await _learn(context, cluster_id)
    for deployment_id in concerned:
        context.hints.hint("deployment", deployment_id)
    return answer


async def cluster_versions(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> ClusterVersionsResponse:
    """The words that a registration may use."""
    await context.db.run(lambda tx: require_account(tx, caller, nca_id))
    return ClusterVersionsResponse(
        cluster_regions=REGIONS,
        cluster_sources=SOURCES,
        cluster_attributes=ATTRIBUTES,
        cluster_capabilities=CAPABILITIES,
    )


async def _learn(context: Context, cluster_id: str) -> None:
    context.fleet.learn(await context.db.run(clusters.every))
    context.hints.hint("cluster", cluster_id)


def _require_operator(caller: Principal, body: ClusterUpdateRequest) -> None:
    """Whoever names a container engine lets gpufn take its whole machine: that is for the installation's operator."""
    if body.docker is not None:
        require_scope(caller, (SUPER_SCOPE,))


def require_account(tx: Transaction, caller: Principal, nca_id: str) -> None:
    """Raises Forbidden for an API key of another account, NotFound for one that does not exist."""
    if caller.is_key and caller.nca_id != nca_id:
        raise Forbidden(f"Access Denied: this key belongs to account '{caller.nca_id}', not to '{nca_id}'")
    if accounts.get(tx, nca_id) is None:
        raise NotFound(f"Account '{nca_id}': Not found")


def _owned(tx: Transaction, caller: Principal, nca_id: str, cluster_id: str) -> Cluster:
    require_account(tx, caller, nca_id)
    found = clusters.get(tx, cluster_id)
    if found is None:
        raise NotFound(f"Cluster id '{cluster_id}': Not found")
    if found.nca_id != nca_id:
        raise Conflict(f"Cluster id '{cluster_id}': account '{nca_id}' does not own it")
    return found


def _keep_tls(tx: Transaction, context: Context, cluster: Cluster, tls: TlsFiles | None) -> None:
    place = cluster_place(cluster.id)
    if cluster.connection is None or not cluster.connection.url.startswith("tcp://"):
        secrets.delete(tx, place)
    elif tls is not None:
        files = (("ca.pem", tls.ca), ("cert.pem", tls.cert), ("key.pem", tls.key))
        secrets.put(tx, [context.keyring.seal(place, Secret(name, text)) for name, text in files])


def _live(tx: Transaction, cluster: Cluster, every: Sequence[Cluster]) -> list[tuple[str, str, str]]:
    """Account, instance type and id of each instance that lives there."""
    names = _names(cluster, every)
    own = (instances.get(tx, one) for one in instances.live_in(tx, names))
    found = [(i.nca_id, i.instance_type, i.id) for i in own if i is not None]
    return [*found, *tasks.holding(tx, names)]


def _names(cluster: Cluster, every: Sequence[Cluster]) -> tuple[str, ...]:
    """By which instances name their cluster: one that was placed when there was one cluster only names none."""
    return (cluster.id, "") if cluster.id == Clusters(tuple(every)).local.id else (cluster.id,)


def _shown(
    tx: Transaction, context: Context, every: Sequence[Cluster], chosen: Sequence[Cluster]
) -> tuple[RegisteredClusterDto, ...]:
    known = Clusters(tuple(every))
    held, counts = clusters.held(tx, known), clusters.live_counts(tx, known)
    now = context.now()
    return tuple(RegisteredClusterDto.of(c, held.get(c.id, {}), counts.get(c.id, 0), now) for c in chosen)

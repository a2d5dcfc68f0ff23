"""What placement is decided from: what is wished, and what runs where. Reads; ``model/placement`` decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from gpufn.model.cluster import Cluster, ClusterMode, Clusters
from gpufn.model.deployment import Deployment, Placement
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import FailureKind, Instance, InstanceStatus as S
from gpufn.model.placement import Offer, Use, Waits, Wish, choose
from gpufn.model.task import Task
from gpufn.store import clusters as stored, deployments, instances
from gpufn.store.database import Transaction

_OF_THE_PLACE = (FailureKind.IMAGE, FailureKind.START, FailureKind.CAPACITY)
"""Failures that another cluster may not have."""


def place(
    tx: Transaction, instance: Instance, version: FunctionVersion, clusters: Clusters, *, only: frozenset[str] | None
) -> Offer | Waits:
    """Where the instance shall run, from what runs at this moment. ``only``: the clusters that have its image."""
    deployment = deployments.get(tx, instance.deployment_id)
    own = [i for i in instances.of_deployment(tx, instance.deployment_id) if i.id != instance.id]
    return choose(clusters, wish_of(instance, deployment, only), _use(tx, instance, own, clusters))


def wish_of(instance: Instance, deployment: Deployment | None, only: frozenset[str] | None = None) -> Wish:
    """What an instance of a function needs."""
    specs = deployment.specifications if deployment is not None else ()
    where = next((s.placement for s in specs if s.id == instance.specification_id), Placement())
    return Wish(instance.nca_id, instance.gpu, instance.instance_type, where, only=only)


def wish_of_task(task: Task, only: frozenset[str] | None = None) -> Wish:
    """What a task needs: whole devices, also of emulated GPUs, and files."""
    d = task.definition
    where = Placement(backend=d.backend, clusters=d.clusters)
    return Wish(task.nca_id, d.gpu, d.instance_type, where, needs_files=True, counted=True, only=only)


def is_overdue(cluster: Cluster | None, now: datetime, patience: float) -> bool:
    """Whether a cluster has been drained for so long that what is still there goes now."""
    if cluster is None or cluster.mode is not ClusterMode.CORDON_AND_DRAIN or cluster.mode_at is None:
        return False
    return (now - cluster.mode_at).total_seconds() >= patience


def silence(clusters: Clusters, cluster_id: str) -> str:
    """Why nothing can be learnt of, or done about, an instance now; empty when its cluster answers, or is given up."""
    cluster = clusters.get(cluster_id)
    if cluster is None or not cluster.is_silent:
        return ""
    return f"its cluster {cluster.name} does not answer: {cluster.health.problem}"


def lost_with(cluster: Cluster | None) -> str:
    """Why an instance is given up that nothing is known of."""
    if cluster is None:
        return "its cluster is not registered any more; another instance takes its place elsewhere"
    problem = cluster.health.problem or "it does not answer"
    return f"its cluster {cluster.name} is lost ({problem}); another instance takes its place elsewhere"


def _use(tx: Transaction, instance: Instance, own: Sequence[Instance], clusters: Clusters) -> Mapping[str, Use]:
    devices = stored.held(tx, clusters)
    siblings = _counted(i for i in own if i.is_live and i.wanted and i.specification_id == instance.specification_id)
    failures = _counted(i for i in own if i.status is S.ERRORED and _is_of_the_place(i))
    return {c.id: Use(devices.get(c.id, Counter()), siblings.get(c.id, 0), failures.get(c.id, 0)) for c in clusters.all}


def _is_of_the_place(instance: Instance) -> bool:
    return instance.failure is not None and instance.failure.kind in _OF_THE_PLACE


def _counted(some: Iterable[Instance]) -> Counter[str]:
    return Counter(i.cluster_id for i in some)

"""Where an instance may run, and where it shall: pure arithmetic over clusters and what runs on them.

A cluster either fits a wish or there is a reason why not (``unfit``), in words for people: the same words say in
``gpufn why`` what an instance waits for. Among those that fit and have room ``choose`` takes the best, always the same
one for the same input (clusters page, section 3; the reference sends the work to all of them and lets them race).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, Clusters, Gpu, InstanceType
from gpufn.model.deployment import Placement

_MEMORY = re.compile(r"(\d+)\s*(?:([KMGT])i?B?)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
REASONS_MAX = 5
"""Clusters that a sentence names."""


@dataclass(frozen=True)
class Wish:
    """What is to be placed."""

    nca_id: str
    gpu: str
    instance_type: str
    where: Placement = field(default_factory=Placement)
    needs_files: bool = False
    """It needs directories of this machine, as a task does."""
    counted: bool = False
    """It holds devices of emulated GPUs and processors too, as a task does; a function only real GPUs."""
    only: frozenset[str] | None = None
    """The clusters that have its image, by id; None: any may fetch it."""


@dataclass(frozen=True)
class Use:
    """What is known of one cluster for one wish. ``held``: devices of each GPU that are taken, by its name."""

    held: Mapping[str, int] = field(default_factory=dict)
    siblings: int = 0
    """Instances of the same specification that are there."""
    failures: int = 0
    """Those that failed there lately."""


@dataclass(frozen=True)
class Offer:
    """A cluster that fits, with the GPU and the shape that are meant."""

    cluster: Cluster
    gpu: Gpu
    shape: InstanceType


@dataclass(frozen=True)
class Waits:
    """Nowhere now; ``reason`` says why, and what would help."""

    reason: str


def memory_bytes(text: str | None) -> int:
    """``80Gi``, ``81559Mi`` or ``80GB`` in bytes, always counted in powers of 1024; 0 for what is none."""
    found = _MEMORY.fullmatch(text.strip()) if text else None
    return int(found[1]) * _UNITS[(found[2] or "").upper()] if found else 0


def offer(cluster: Cluster, wish: Wish) -> Offer | None:
    """What the cluster has of what is wished, whether it may be used or not."""
    gpu = cluster.gpu(wish.gpu)
    shape = gpu.instance_type(wish.instance_type) if gpu is not None else None
    return Offer(cluster, gpu, shape) if gpu is not None and shape is not None else None


def unfit(cluster: Cluster, wish: Wish, *, alone: bool = False) -> str | None:
    """Why the cluster is none for this wish, whatever is free there; None when it is. ``alone``: there is no other."""
    if not cluster.admits(wish.nca_id):
        return "is not authorized for this account"
    found = offer(cluster, wish)
    if found is None:
        return f"has no {wish.instance_type}"
    named = None if alone and cluster.stands_for_any else _unnamed(cluster, wish.where)
    if named is not None:
        return named
    least = memory_bytes(wish.where.min_gpu_memory)
    if memory_bytes(found.shape.gpu_memory) < least:
        return f"has {found.gpu.name} with {found.shape.gpu_memory or 'unknown memory'} only"
    if wish.needs_files and not cluster.shares_files:
        return "shares no files with gpufn, which a task needs"
    if wish.only is not None and cluster.id not in wish.only:
        return "does not have the image"
    return _unusable(cluster)


def _unnamed(cluster: Cluster, where: Placement) -> str | None:
    """Names are compared without case; a cluster goes by its name or its id."""
    own = {cluster.name.lower(), cluster.id.lower()}
    if where.backend is not None and where.backend.lower() != cluster.group_name.lower():
        return f"is not of group {where.backend}"
    if where.clusters and not own & _lower(where.clusters):
        return f"is not among the clusters {', '.join(where.clusters)}"
    if where.regions and cluster.region.lower() not in _lower(where.regions):
        return f"is in region {cluster.region}"
    zones = {cluster.zone.lower()} if cluster.zone else own
    if where.availability_zones and not zones & _lower(where.availability_zones):
        return f"is in zone {cluster.zone or cluster.name}"
    missing = _lower(where.attributes) - _lower((*cluster.attributes, *cluster.custom_attributes))
    if missing:
        return f"lacks the attribute {', '.join(a for a in where.attributes if a.lower() in missing)}"
    return None


def _unusable(cluster: Cluster) -> str | None:
    if cluster.mode is not ClusterMode.READY:
        return "is in maintenance"
    if cluster.kind is ClusterKind.AGENT:
        return "is run by an agent, which gpufn gives no work"
    if cluster.is_lost:
        return "is lost"
    return None if cluster.answers else "does not answer"


def _lower(names: Collection[str]) -> set[str]:
    return {name.lower() for name in names}


def choose(clusters: Clusters, wish: Wish, use: Mapping[str, Use]) -> Offer | Waits:
    """The cluster for one more instance, or why it has to wait.

    A real GPU goes before an emulated one, which is taken only where nobody who may be used by name has it for real:
    an emulated GPU is no substitute for one that is busy. Then: where the specification failed least, where the fewest
    of its instances are, the least memory that suffices, and where the smallest part is in use.
    """
    alone = len(clusters.all) == 1
    reasons = {c.id: unfit(c, wish, alone=alone) for c in clusters.all}
    fitting = [found for c in clusters.all if reasons[c.id] is None and (found := offer(c, wish)) is not None]
    if any(not found.gpu.emulated for found in _by_name(clusters, wish, alone=alone)):
        fitting = [found for found in fitting if not found.gpu.emulated]
    free = [found for found in fitting if _has_room(found, wish, use.get(found.cluster.id, Use()))]
    if free:
        return min(free, key=lambda found: _cost(found, use.get(found.cluster.id, Use())))
    return Waits(_why(clusters, wish, reasons, fitting, use))


def _by_name(clusters: Clusters, wish: Wish, *, alone: bool) -> list[Offer]:
    """Those that are meant, usable now or not; one that never answered is nothing to wait for."""
    found = []
    for cluster in clusters.all:
        one = offer(cluster, wish)
        named = (alone and cluster.stands_for_any) or _unnamed(cluster, wish.where) is None
        known = cluster.kind is ClusterKind.LOCAL or cluster.health.seen_at is not None
        if one is not None and named and known and cluster.admits(wish.nca_id):
            found.append(one)
    return found


def _has_room(found: Offer, wish: Wish, use: Use) -> bool:
    if not wish.counted and (found.gpu.emulated or found.shape.gpu_count == 0):
        return True
    return use.held.get(found.gpu.name, 0) + max(1, found.shape.gpu_count) <= found.gpu.capacity


def _cost(found: Offer, use: Use) -> tuple[object, ...]:
    taken = use.held.get(found.gpu.name, 0) / max(1, found.gpu.capacity)
    memory = memory_bytes(found.shape.gpu_memory)
    is_local = found.cluster.kind is ClusterKind.LOCAL
    return (found.gpu.emulated, use.failures, use.siblings, memory, taken, not is_local, found.cluster.name)


def _why(
    clusters: Clusters,
    wish: Wish,
    reasons: Mapping[str, str | None],
    fitting: Sequence[Offer],
    use: Mapping[str, Use],
) -> str:
    full = [
        f"{f.cluster.name} has {max(0, f.gpu.capacity - use.get(f.cluster.id, Use()).held.get(f.gpu.name, 0))} of "
        f"{f.gpu.capacity} free"
        for f in fitting
    ]
    others = [f"{c.name} {reasons[c.id]}" for c in clusters.all if reasons[c.id] is not None]
    said = [*full, *others]
    more = [f"and {len(said) - REASONS_MAX} more"] if len(said) > REASONS_MAX else []
    return f"waiting for {wish.instance_type}: " + "; ".join([*said[:REASONS_MAX], *more])

"""Where instances may run, and where they shall."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, Clusters, Connection, Gpu, Health, InstanceType
from gpufn.model.deployment import Placement
from gpufn.model.placement import Offer, Use, Waits, Wish, choose, memory_bytes, unfit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
H100 = "ON-PREM.GPU.H100_1x"


def a_gpu(capacity: int = 8, *, emulated: bool = False, memory: str = "80Gi") -> Gpu:
    shapes = tuple(
        InstanceType(f"ON-PREM.GPU.H100_{n}x", "ON-PREM.GPU.H100", n, f"{n} H100", n == 1, gpu_memory=memory)
        for n in (1, 2)
    )
    return Gpu("H100", capacity, shapes, emulated=emulated)


def a_cluster(name: str = "east", gpu: Gpu | None = None, **changes: object) -> Cluster:
    """A registered Docker host that answers."""
    cluster = Cluster(
        id=f"id-{name}",
        name=name,
        group_id="g",
        group_name="racks",
        region="us-east-1",
        gpus=(gpu or a_gpu(),),
        kind=ClusterKind.DOCKER,
        connection=Connection("tcp://x:1", "x", "x"),
        health=Health(seen_at=NOW),
    )
    return replace(cluster, **changes)  # type: ignore[arg-type]


LOCAL = a_cluster("local", a_gpu(emulated=True), kind=ClusterKind.LOCAL, group_name="local", region="local")
WISH = Wish("nca", "H100", H100)


def chosen(clusters: list[Cluster], wish: Wish = WISH, use: dict[str, Use] | None = None) -> str:
    """The name of the cluster that is chosen, or why none is."""
    found = choose(Clusters(tuple(clusters)), wish, use or {})
    return found.cluster.name if isinstance(found, Offer) else found.reason


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        ({}, Placement(), None),
        ({"authorized": ("someone",)}, Placement(), "is not authorized for this account"),
        ({"gpus": ()}, Placement(), f"has no {H100}"),
        ({}, Placement(backend="RACKS"), None),
        ({}, Placement(backend="local"), "is not of group local"),
        ({}, Placement(clusters=("EAST", "west")), None),
        ({}, Placement(clusters=("west",)), "is not among the clusters west"),
        ({}, Placement(regions=("US-EAST-1",)), None),
        ({}, Placement(regions=("eu-west-1",)), "is in region us-east-1"),
        ({"zone": "1a"}, Placement(availability_zones=("1A",)), None),
        ({"zone": "1a"}, Placement(availability_zones=("1b",)), "is in zone 1a"),
        ({}, Placement(availability_zones=("id-east",)), None),
        ({"attributes": ("HostIsolation",)}, Placement(attributes=("hostisolation",)), None),
        ({"custom_attributes": ("quiet",)}, Placement(attributes=("quiet",)), None),
        ({"attributes": ("HostIsolation",)}, Placement(attributes=("quiet", "HostIsolation")), "the attribute quiet"),
        ({}, Placement(min_gpu_memory="80Gi"), None),
        ({}, Placement(min_gpu_memory="81Gi"), "has H100 with 80Gi only"),
        ({"mode": ClusterMode.CORDON}, Placement(), "is in maintenance"),
        ({"mode": ClusterMode.CORDON_AND_DRAIN}, Placement(), "is in maintenance"),
        ({"health": Health()}, Placement(), "does not answer"),
        ({"health": Health(seen_at=NOW, failing_at=NOW)}, Placement(), "does not answer"),
        ({"health": Health(seen_at=NOW, failing_at=NOW, lost_at=NOW)}, Placement(), "is lost"),
        ({"kind": ClusterKind.AGENT}, Placement(), "run by an agent"),
    ],
)
def test_a_cluster_fits_or_there_is_a_reason(change: dict[str, Any], where: Placement, why: str | None) -> None:
    """Check 16: group, names, regions, zones, attributes and memory must all be met, without regard to case."""
    found = unfit(replace(a_cluster(), **change), replace(WISH, where=where))
    assert (found is None) if why is None else (found is not None and why in found)


def test_a_task_needs_files_and_an_image_may_be_in_one_place_only() -> None:
    """A cluster without this machine's directories takes no task; one without the image nothing that needs it."""
    assert "shares no files" in str(unfit(a_cluster(), replace(WISH, needs_files=True)))
    assert unfit(LOCAL, replace(WISH, needs_files=True)) is None
    assert "does not have the image" in str(unfit(a_cluster(), replace(WISH, only=frozenset({LOCAL.id}))))


def test_the_only_cluster_may_stand_for_any() -> None:
    """A specification written for NVCF runs on the only cluster; with a second one, names mean what they say."""
    wish = replace(WISH, where=Placement(clusters=("nvcf-dgxc-1",), regions=("us-west-1",), attributes=("PCI",)))
    alone = replace(LOCAL, stands_for_any=True)
    assert chosen([alone], wish) == "local"
    assert chosen([LOCAL], wish).startswith("waiting for")
    assert chosen([alone, a_cluster()], wish).startswith(f"waiting for {H100}: local is not among the clusters")


def test_a_real_gpu_is_never_replaced_by_an_emulated_one() -> None:
    """Where a cluster that is meant has it for real, busy or lost, an emulated one is not taken instead."""
    lost = Health(seen_at=NOW, failing_at=NOW, lost_at=NOW)
    assert chosen([LOCAL, a_cluster()]) == "east"
    assert "east has 0 of 8 free" in chosen([LOCAL, a_cluster()], use={"id-east": Use({"H100": 8})})
    assert "east is lost" in chosen([LOCAL, a_cluster(health=lost)])
    assert chosen([LOCAL, a_cluster(health=Health(problem="no route to host"))]) == "local"
    assert chosen([LOCAL, a_cluster(gpu=a_gpu(emulated=True))]) == "local"


def test_instances_spread_and_avoid_what_failed() -> None:
    """First where it failed least, then where it has the fewest instances, then the least memory that suffices."""
    east, west = a_cluster("east"), a_cluster("west")
    assert chosen([LOCAL, east, west]) == "east"
    assert chosen([LOCAL, east, west], use={"id-east": Use(siblings=1)}) == "west"
    assert chosen([LOCAL, east, west], use={"id-east": Use(siblings=1), "id-west": Use(failures=1)}) == "east"
    assert chosen([LOCAL, east, west], use={"id-east": Use({"H100": 3})}) == "west"
    small = a_cluster("west", a_gpu(memory="40Gi"))
    assert chosen([LOCAL, east, small]) == "west"
    assert chosen([LOCAL, east, small], replace(WISH, where=Placement(min_gpu_memory="64Gi"))) == "east"


def test_emulated_devices_are_counted_for_tasks_only() -> None:
    """A function finds room on any number of emulated GPUs; a task takes turns."""
    full = {LOCAL.id: Use({"H100": 8})}
    assert chosen([LOCAL], use=full) == "local"
    assert "local has 0 of 8 free" in chosen([LOCAL], replace(WISH, counted=True), full)


@pytest.mark.parametrize(("text", "size"), [("80Gi", 80 * 2**30), ("81559Mi", 81559 * 2**20), ("40 GB", 40 * 2**30)])
def test_memory_is_read_in_the_forms_that_clusters_use(text: str, size: int) -> None:
    """Kubernetes' quantities and people's."""
    assert memory_bytes(text) == size
    assert memory_bytes(None) == memory_bytes("much") == 0


NAMES = st.sampled_from(["east", "west", "north"])
SOME_CLUSTERS = st.lists(
    st.builds(
        lambda name, mode, health, capacity, emulated, attribute: a_cluster(
            name, a_gpu(capacity, emulated=emulated), mode=mode, health=health, attributes=(attribute,)
        ),
        NAMES,
        st.sampled_from(list(ClusterMode)),
        st.sampled_from([Health(), Health(seen_at=NOW), Health(seen_at=NOW, failing_at=NOW, lost_at=NOW)]),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from(["a", "b"]),
    ),
    max_size=3,
    unique_by=lambda c: c.name,
)
USES = st.dictionaries(
    st.sampled_from(["id-east", "id-west", "id-north", "id-local"]),
    st.builds(Use, st.dictionaries(st.just("H100"), st.integers(0, 4)), st.integers(0, 3), st.integers(0, 2)),
)
WISHES = st.builds(
    lambda shape, clusters, attributes, files, counted: Wish(
        "nca", "H100", f"ON-PREM.GPU.H100_{shape}x", Placement(clusters=clusters, attributes=attributes), files, counted
    ),
    st.sampled_from([1, 2]),
    st.lists(NAMES, max_size=2).map(tuple),
    st.lists(st.sampled_from(["a", "b"]), max_size=1).map(tuple),
    st.booleans(),
    st.booleans(),
)


@given(SOME_CLUSTERS, USES, WISHES)
def test_a_choice_fits_and_has_room_or_there_is_none(some: list[Cluster], use: dict[str, Use], wish: Wish) -> None:
    """What is chosen fits, is not cordoned or lost, has room for all devices, and is the same whatever the order;
    nothing is chosen only where no cluster that fits has both a place and the right kind of GPU.
    """
    clusters = Clusters((LOCAL, *some))
    found = choose(clusters, wish, use)
    assert choose(Clusters((LOCAL, *reversed(some))), wish, use) == found or isinstance(found, Waits)
    fitting = [c for c in clusters.all if unfit(c, wish) is None]
    if isinstance(found, Waits):
        assert found.reason.startswith(f"waiting for {wish.instance_type}")
        full = [c for c in fitting if use.get(c.id, Use()).held.get("H100", 0) + 1 > c.gpus[0].capacity]
        short = [c for c in fitting if c.gpus[0].capacity < use.get(c.id, Use()).held.get("H100", 0) + 2]
        real_elsewhere = any(not c.gpus[0].emulated and c.health.seen_at for c in some)
        assert all(c in full or c in short or (c.gpus[0].emulated and real_elsewhere) for c in fitting)
        return
    assert found.cluster in fitting
    assert found.cluster.mode is ClusterMode.READY
    assert found.cluster.answers
    assert found.shape.name == wish.instance_type
    if wish.counted or not found.gpu.emulated:
        held = use.get(found.cluster.id, Use()).held.get("H100", 0)
        assert held + found.shape.gpu_count <= found.gpu.capacity
    if found.gpu.emulated:
        assert all(c.gpus[0].emulated for c in fitting)

"""Names, instance types and the handing out of GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpufn.compute.gpus import Device, Devices, allocate, detect, local_cluster, normalise
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind
from gpufn.model.inventory import sizes
from gpufn.settings import ClusterSettings


def _devices(*kinds: str) -> list[Device]:
    return [Device(n, kind, f"NVIDIA {kind}", 81559, "550.54.15") for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-A100-SXM4-40GB", "A100"),
        ("RTX-2080-Ti-8G", "RTX2080Ti"),
        ("NVIDIA-GeForce-RTX-3070-Ti", "RTX3070Ti"),
        ("TU106-GeForce-RTX-2070-Rev.-A", "RTX2070"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTXPRO6000"),
        ("NVIDIA-H200-mig-7G.141GB", "H200-MIG-7g-141gb"),
        ("NVIDIA-H200-MIG-broken", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce GTX 1080 Ti", "GTX1080Ti"),
        ("NVIDIA GH200 480GB", "GH200"),
    ],
)
def test_product_becomes_the_name_of_the_page(product: str, name: str) -> None:
    """Checks 1 and 2: the examples of clusters page, section 1.3, and what NVML calls common devices."""
    assert normalise(product) == name


@pytest.mark.parametrize("product", ["", "NVIDIA", "NVIDIA GeForce", "80GB", "-"])
def test_product_without_a_name_is_refused(product: str) -> None:
    """Nothing left is an error, not an empty name."""
    with pytest.raises(ValueError, match="without a name"):
        normalise(product)


@given(st.integers(1, 64))
def test_sizes_are_powers_of_two_and_all(count: int) -> None:
    """Check 3: every size is a power of two below the count, in order, and the last is the count itself."""
    found = sizes(count)

    assert found[-1] == count
    assert found == sorted(set(found))
    assert all(n & (n - 1) == 0 for n in found[:-1])
    assert count < 2 or found[0] == 1


def test_emulated_cluster_offers_what_specifications_name() -> None:
    """Without a GPU the usual names are there, marked as emulated, with their instance types; CPU is real."""
    cluster = local_cluster(ClusterSettings(), [])
    h100, cpu = cluster.gpu("h100"), cluster.gpu("CPU")

    assert h100 is not None
    assert cpu is not None
    assert (h100.emulated, h100.capacity) == (True, 8)
    assert [t.name for t in h100.instance_types] == [f"ON-PREM.GPU.H100_{n}x" for n in (1, 2, 4, 8)]
    assert [t.default for t in h100.instance_types] == [True, False, False, False]
    assert all("emulated" in t.description for t in h100.instance_types)
    assert not cpu.emulated
    assert [(t.name, t.gpu_count) for t in cpu.instance_types] == [("ON-PREM.CPU_1x", 0)]
    assert {g.name for g in cluster.gpus} >= {
        "H100",
        "A100_80GB",
        "L40S",
        "L40",
        "L40G",
        "T10",
        "H200",
        "B200",
        "GH200",
    }


def test_real_gpu_hides_its_emulated_twin() -> None:
    """Each name is there once, and the real one wins."""
    cluster = local_cluster(ClusterSettings(provider="ncp"), _devices("H100", "H100", "L4"))
    names = [g.name for g in cluster.gpus]
    h100 = cluster.gpu("H100")

    assert len(names) == len(set(names))
    assert h100 is not None
    assert (h100.emulated, h100.capacity) == (False, 2)
    assert h100.instance_types[1].name == "NCP.GPU.H100_2x"
    assert h100.instance_types[1].driver_version == "550.54.15"


def test_strict_mode_offers_only_what_is_real() -> None:
    """Without emulation there are the real GPUs and the CPU."""
    strict = ClusterSettings(emulate_gpus=False)

    assert [g.name for g in local_cluster(strict, _devices("L4")).gpus] == ["L4", "CPU"]
    assert [g.name for g in local_cluster(strict, []).gpus] == ["CPU"]


def test_ids_depend_on_the_name_alone() -> None:
    """A restart, or another GPU, does not change the cluster's identity."""
    one, two = local_cluster(ClusterSettings(), []), local_cluster(ClusterSettings(), _devices("H100"))
    other = local_cluster(ClusterSettings(name="other"), [])

    assert (one.id, one.group_id) == (two.id, two.group_id)
    assert len({one.id, one.group_id, other.id, other.group_id}) == 4


def test_machine_without_driver_has_no_devices_and_no_error() -> None:
    """Detection is quiet, and what it finds has distinct indices."""
    found = detect()

    assert len({device.index for device in found}) == len(found)


@given(st.integers(0, 8), st.sets(st.integers(0, 8)), st.integers(0, 9))
def test_allocation_is_exact_and_takes_nothing_twice(count: int, taken: set[int], need: int) -> None:
    """Either exactly what is needed, from what is free, or nothing because too little is free."""
    devices = _devices(*["H100"] * count)
    free = {device.index for device in devices} - taken
    found = allocate(devices, taken, need)

    if found is None:
        assert len(free) < need
    else:
        assert len(set(found)) == len(found) == need
        assert set(found) <= free


def test_devices_are_held_until_released() -> None:
    """The same instance is given the same devices; another is refused until they are released or were adopted."""
    a, b = InstanceId("a"), InstanceId("b")
    devices = Devices(_devices("H100", "L4", "H100"))

    assert devices.reserve(a, "h100", 2) == devices.reserve(a, "H100", 2) == (0, 2)
    refused = devices.reserve(b, "H100", 1)
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.permanent) == (FailureKind.CAPACITY, False)
    assert refused.message.startswith("needs 1 H100, 0 of 2 free")
    devices.release(a)
    devices.adopt(a, (0,))
    assert devices.reserve(b, "H100", 1) == (2,)


def test_more_than_there_are_can_never_be_had() -> None:
    """A wish beyond the machine is refused for good."""
    refused = Devices(_devices("L4")).reserve(InstanceId("a"), "L4", 2)

    assert isinstance(refused, Failure)
    assert refused.permanent

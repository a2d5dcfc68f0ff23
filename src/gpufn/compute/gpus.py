"""Which GPUs this machine offers: real ones through NVML, emulated ones where there are none, and ``CPU``.

``CPU`` is always real: a type without devices, for functions that need no GPU. Its instance type is
``<PROVIDER>.CPU_1x`` with ``gpu_count`` 0, in the form that clusters page, section 1.3 gives to GPUs.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pynvml

from gpufn.model import inventory
from gpufn.model.cluster import Cluster, Gpu
from gpufn.model.ids import InstanceId, stable_id
from gpufn.model.instance import Failure, FailureKind
from gpufn.runtime.log import get_logger
from gpufn.settings import ClusterSettings

log = get_logger("gpus")

EMULATED_CAPACITY = 8
EMULATED_GIB: Mapping[str, int] = {
    "H100": 80,
    "A100_80GB": 80,
    "L40S": 48,
    "L40": 48,
    "L40G": 24,
    "T10": 16,
    "H200": 141,
    "B200": 180,
    "GH200": 96,
    "A100": 40,
    "A10G": 24,
    "L4": 24,
    "T4": 16,
}
"""Names that NVCF's own documents use in deployment specifications, with the memory of one device in GiB."""

_MIG = re.compile(r"-MIG-(\d+)g[.-](\d+)gb$", re.IGNORECASE)
_MEMORY = re.compile(r"[1-9]\d*[TGMK]B")
_SERIES = re.compile(r"(RTX|GTX)")


@dataclass(frozen=True)
class Device:
    """One real GPU. ``index`` is NVML's, in PCI order; ``kind`` the normalised name."""

    index: int
    kind: str
    product: str
    memory_mib: int
    driver: str


def normalise(product: str) -> str:
    """The GPU name of a product: ``NVIDIA A100-SXM4-40GB`` is ``A100`` (clusters page, section 1.3, step 2).

    Raises ValueError when nothing is left of it.
    """
    label = product.strip().replace(" ", "-")
    mig = _MIG.search(label)
    if mig is not None:
        label = label[: mig.start()]
    label = label.upper()
    series = _SERIES.search(label)
    if series is not None:
        label = label[series.start() :]
    name = _name([token for token in label.split("-") if token])
    return f"{name}-MIG-{mig[1]}g-{mig[2]}gb" if mig is not None else name


def _name(tokens: list[str]) -> str:
    if tokens and _MEMORY.fullmatch(tokens[-1]):
        tokens = tokens[:-1]
    for brand in ("NVIDIA", "GEFORCE"):
        if tokens and tokens[0] == brand:
            tokens = tokens[1:]
    if not tokens:
        raise ValueError("a GPU product without a name")
    first, second, third = (*tokens, "", "")[:3]
    if first not in ("RTX", "GTX"):
        return first
    if third == "TI":
        return f"{first}{second}Ti"
    return f"{first}{second}{third}" if second == "PRO" and third.isdecimal() else f"{first}{second}"


def detect() -> list[Device]:
    """The real GPUs; empty where there is no driver. What NVML cannot say of one device leaves that one out."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        found = [_device(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        log.warning("the GPUs cannot be listed; serving without", error=str(error))
        return []
    finally:
        pynvml.nvmlShutdown()
    return [device for device in found if device is not None]


def _device(index: int, driver: str) -> Device | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        product = str(pynvml.nvmlDeviceGetName(handle))
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) // (1024 * 1024)
        return Device(index, normalise(product), product, memory, driver)
    except (pynvml.NVMLError, ValueError) as error:
        log.warning("a GPU is left out", index=index, error=str(error))
        return None


def local_cluster(settings: ClusterSettings, devices: Sequence[Device]) -> Cluster:
    """This machine as a cluster. Its ids depend on its name alone."""
    provider = settings.provider.upper()
    real = [_real(provider, kind, [d for d in devices if d.kind == kind]) for kind in Counter(d.kind for d in devices)]
    emulated = [_emulated(provider, name) for name in EMULATED_GIB] if settings.emulate_gpus else []
    names = {gpu.name for gpu in real}
    return Cluster(
        id=stable_id("cluster", settings.name),
        name=settings.name,
        group_id=stable_id("cluster-group", settings.name),
        group_name=settings.name,
        region=settings.region,
        provider=provider,
        zone=settings.zone,
        custom_attributes=tuple(a.strip() for a in settings.attributes.split(",") if a.strip()),
        stands_for_any=settings.stands_for_any,
        gpus=(*real, *(gpu for gpu in emulated if gpu.name not in names), inventory.cpu(provider, os.cpu_count() or 1)),
    )


def _real(provider: str, kind: str, devices: Sequence[Device]) -> Gpu:
    smallest = min(device.memory_mib for device in devices)
    first = devices[0]
    return inventory.gpu(
        provider,
        kind,
        len(devices),
        memory_mib=smallest,
        product=f"{first.product} of this machine",
        driver=first.driver,
    )


def _emulated(provider: str, kind: str) -> Gpu:
    return inventory.gpu(provider, kind, EMULATED_CAPACITY, memory_mib=EMULATED_GIB[kind] * 1024, emulated=True)


def allocate(devices: Sequence[Device], taken: Collection[int], need: int) -> tuple[int, ...] | None:
    """``need`` indices out of ``devices`` that are not ``taken``, lowest first; None when there are too few."""
    free = sorted(device.index for device in devices if device.index not in taken)
    return tuple(free[:need]) if len(free) >= need else None


class Devices:
    """Who holds which real GPU of this machine. Shared by the backends that run instances on it."""

    def __init__(self, devices: Sequence[Device] = ()) -> None:
        self._devices = tuple(devices)
        self._held: dict[InstanceId, tuple[int, ...]] = {}

    def reserve(self, instance_id: InstanceId, gpu: str, need: int) -> tuple[int, ...] | Failure:
        """``need`` devices of kind ``gpu`` for an instance, the same ones when asked again, or why there are none."""
        if instance_id in self._held:
            return self._held[instance_id]
        kind = [device for device in self._devices if device.kind.lower() == gpu.lower()]
        taken = {index for held in self._held.values() for index in held}
        found = allocate(kind, taken, need)
        if found is None:
            free = sum(device.index not in taken for device in kind)
            return Failure(
                FailureKind.CAPACITY,
                f"needs {need} {gpu}, {free} of {len(kind)} free; stop another deployment or ask for fewer GPUs",
                permanent=need > len(kind),
            )
        self._held[instance_id] = found
        return found

    def adopt(self, instance_id: InstanceId, indices: Sequence[int]) -> None:
        """An instance that was found again holds ``indices``."""
        if indices:
            self._held[instance_id] = tuple(indices)

    def release(self, instance_id: InstanceId) -> None:
        """The instance needs its devices no more."""
        self._held.pop(instance_id, None)

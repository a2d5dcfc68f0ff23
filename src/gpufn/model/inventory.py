"""What a cluster offers, from how many GPUs of which kind it has (clusters page, section 1.3). Pure."""

from __future__ import annotations

from gpufn.model.cluster import Gpu, InstanceType

CPU = "CPU"
"""A type without devices, for functions that need no GPU."""


def sizes(count: int) -> list[int]:
    """How many devices an instance type of a machine with ``count`` can have: 1, 2, 4 …, and all of them."""
    powers = [2**n for n in range(count.bit_length()) if 2**n < count]
    return [*powers, count]


def gpu(
    provider: str,
    kind: str,
    count: int,
    *,
    memory_mib: int = 0,
    product: str = "",
    driver: str | None = None,
    emulated: bool = False,
) -> Gpu:
    """``count`` devices of one kind with the instance types the reference derives: ``ON-PREM.GPU.H100_2x``, the single
    one the default. ``memory_mib``: of one device; 0: not known.
    """
    value = f"{provider}.GPU.{kind}"
    types = tuple(
        InstanceType(
            name=f"{value}_{n}x",
            value=value,
            gpu_count=n,
            description=_description(n, product or kind, emulated=emulated),
            default=n == 1,
            driver_version=driver,
            gpu_memory=_memory(memory_mib * n),
        )
        for n in sizes(count)
    )
    return Gpu(kind, count, types, emulated=emulated)


def cpu(provider: str, count: int) -> Gpu:
    """The processors of a machine, as a kind of GPU that has no devices."""
    value = f"{provider}.{CPU}"
    return Gpu(CPU, count, (InstanceType(f"{value}_1x", value, 0, "The machine's processors, without a GPU", True),))


def _description(count: int, product: str, *, emulated: bool) -> str:
    return f"{count} x {product}, emulated: the function runs without a GPU" if emulated else f"{count} x {product}"


def _memory(mib: int) -> str | None:
    if mib == 0:
        return None
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"

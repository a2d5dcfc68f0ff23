"""Values that the tests of scaling are made of."""

from __future__ import annotations

from dataclasses import replace

from gpufn.model.deployment import Autoscaling, GpuSpecification
from gpufn.model.ids import SpecificationId
from gpufn.scaling.demand import Demand
from gpufn.scaling.load import Load


def a_spec(
    name: str = "a",
    minimum: int = 0,
    maximum: int = 9,
    *,
    concurrency: int = 1,
    order: int = 1,
    desired: int | None = None,
    autoscaling: Autoscaling | None = None,
) -> GpuSpecification:
    """A specification with these bounds; its minimum is desired unless said otherwise."""
    spec = GpuSpecification(SpecificationId(name), "H100", "t", minimum, maximum, concurrency, order)
    return replace(spec, desired=minimum if desired is None else desired, autoscaling=autoscaling)


def a_demand(requests: float = 0.0, *, peak: float = 0.0, idle: float | None = None, settled: bool = True) -> Demand:
    """A demand for ``requests``; with ``idle``, none for that many seconds."""
    load = Load(0, 1, None) if idle is None else Load(0, 0, -idle)
    return Demand(load, requests, max(peak, requests), 60.0, settled, idle or 0.0)

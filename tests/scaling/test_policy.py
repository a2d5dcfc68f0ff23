"""How many instances a load needs."""

from __future__ import annotations

from hypothesis import given, strategies as st

from gpufn.model.deployment import GpuSpecification
from gpufn.model.ids import SpecificationId
from gpufn.scaling.load import Load
from gpufn.scaling.policy import Peak, Policy, decide, fill


def a_spec(name: str, minimum: int, maximum: int, *, concurrency: int = 1, order: int = 1) -> GpuSpecification:
    """A specification with these bounds."""
    return GpuSpecification(SpecificationId(name), "H100", "t", minimum, maximum, concurrency, order, desired=minimum)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 8), st.integers(0, 100), st.integers(0, 100))
def test_counts_stay_in_bounds(minimum: int, more: int, concurrency: int, queued: int, peak: int) -> None:
    """Whatever the load, the count lies between minimum and maximum, and what is queued has an instance if it may."""
    spec = a_spec("a", minimum, minimum + max(more, 1), concurrency=concurrency)
    (word,) = decide([spec], Load(queued), peak=peak, settled=True, now=0, policy=Policy())
    assert spec.min_instances <= word.count <= spec.max_instances
    assert word.count > 0 or queued == peak == 0
    assert word.reason


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_peak_is_that_of_the_window(steps: list[tuple[float, int]]) -> None:
    """The peak is exactly the highest value of the last window."""
    peak, now, seen = Peak(60, now=0), 0.0, []
    for wait, value in steps:
        now += wait
        seen.append((now, value))
        assert peak.add(value, now=now) == max(v for at, v in seen if at >= now - 60)


def test_preferred_specifications_are_filled_first() -> None:
    """More load goes to the lowest preferred order until its maximum, and only then to the next."""
    specs = [a_spec("second", 0, 9, order=2), a_spec("first", 0, 3, order=1)]
    assert fill(specs, 2) == {"second": 0, "first": 2}
    assert fill(specs, 5) == {"second": 2, "first": 3}


def test_one_call_needs_one_instance() -> None:
    """An instance with one slot carries one request; with ten slots it is to carry eight."""
    assert fill([a_spec("a", 0, 9)], 1) == {"a": 1}
    assert fill([a_spec("a", 0, 9, concurrency=10)], 8) == {"a": 1}
    assert fill([a_spec("a", 0, 9, concurrency=10)], 9) == {"a": 2}

"""How many instances a demand needs."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, strategies as st
from scaling_values import a_demand, a_spec

from gpufn.model.deployment import Autoscaling
from gpufn.scaling.policy import Policy, decide, fill


@given(
    st.integers(0, 5), st.integers(0, 5), st.integers(1, 8), st.floats(0, 100), st.floats(0, 100), st.integers(0, 20)
)
def test_counts_stay_in_bounds(
    minimum: int, more: int, concurrency: int, requests: float, peak: float, desired: int
) -> None:
    """Whatever is needed, the count lies between minimum and maximum, and what is at work has an instance."""
    spec = a_spec("a", minimum, minimum + max(more, 1), concurrency=concurrency, desired=desired)
    for settled in (True, False):
        demand = a_demand(requests, peak=peak, settled=settled)
        (word,) = decide([spec], demand, now=0, policy=Policy())
        assert max(spec.min_instances, 1) <= word.count <= spec.max_instances
        assert word.reason


def test_preferred_specifications_are_filled_first() -> None:
    """More load goes to the lowest preferred order until its maximum, and only then to the next."""
    specs = [a_spec("second", 0, 9, order=2), a_spec("first", 0, 3, order=1)]
    assert fill(specs, 2) == {"second": 0, "first": 2}
    assert fill(specs, 5) == {"second": 2, "first": 3}


def test_what_is_settled_already_carries_its_share() -> None:
    """Specifications that follow the load take what one with rules of its own leaves over."""
    specs = [a_spec("a"), a_spec("b", order=2)]
    assert fill(specs, 5, fixed={specs[0].id: 2}) == {"a": 2, "b": 3}
    assert fill(specs, 5, fixed={specs[0].id: 7}) == {"a": 7, "b": 0}


def test_one_call_needs_one_instance() -> None:
    """An instance with one slot carries one request; with ten slots it is to carry eight."""
    assert fill([a_spec()], 1) == {"a": 1}
    assert fill([a_spec()], 1 + 1e-12) == {"a": 1}
    assert fill([a_spec(concurrency=10)], 8) == {"a": 1}
    assert fill([a_spec(concurrency=10)], 9) == {"a": 2}


def test_the_last_instance_stays_for_the_idle_time() -> None:
    """Without requests one instance stays, the preferred one, until the idle time is over, and then none."""
    specs = [a_spec("a", desired=2, order=2), a_spec("b", desired=2)]
    policy = Policy(idle_to_zero=300)
    assert [d.count for d in decide(specs, a_demand(idle=299), now=0, policy=policy)] == [0, 1]
    gone = decide(specs, a_demand(idle=300), now=0, policy=policy)
    assert [(d.count, d.reason) for d in gone] == [(0, "no request for 300 s")] * 2


def test_an_idle_time_of_its_own() -> None:
    """A specification's own idle time wins over the platform's, be it shorter or longer, and over the window."""
    for own, idle, count in ((10, 9, 1), (10, 10, 0), (900, 301, 1), (900, 900, 0)):
        spec = a_spec(desired=1, autoscaling=Autoscaling(idle_timeout=timedelta(seconds=own)))
        (word,) = decide([spec], a_demand(idle=idle, peak=1), now=0, policy=Policy(idle_to_zero=300))
        assert (own, idle, word.count) == (own, idle, count)


def test_the_minimum_is_never_idle() -> None:
    """A minimum above zero stays however long nobody asks."""
    (word,) = decide([a_spec("a", 2, 4)], a_demand(idle=1e6), now=0, policy=Policy())
    assert word.count == 2


def test_unsettled_nothing_goes_down() -> None:
    """As long as the past is not known, an instance is kept; what is needed starts all the same."""
    spec = a_spec(desired=4)
    assert decide([spec], a_demand(1, settled=False), now=0, policy=Policy())[0].count == 4
    assert decide([spec], a_demand(6, settled=False), now=0, policy=Policy())[0].count == 6

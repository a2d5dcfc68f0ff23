"""Instances of a cluster that is drained: others take their place first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_world import BEGIN, a_deployment, a_spec, a_version
from hypothesis import given, strategies as st

from gpufn.controllers.plan import Moving, RestartPolicy, scale
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.instance import Instance, InstanceStatus as S
from gpufn.runtime.backoff import Backoff

POLICY = RestartPolicy(attempts=3, backoff=Backoff(1.0, 60.0), stable=timedelta(minutes=1))
VERSION = a_version()
SPEC = a_spec(1, 8)
DEPLOYMENT = a_deployment(VERSION, SPEC)


def an_instance(status: S, cluster: str) -> Instance:
    return Instance(
        id=InstanceId(new_id()),
        deployment_id=DEPLOYMENT.id,
        specification_id=SPEC.id,
        version_id=VERSION.id,
        function_id=VERSION.function_id,
        nca_id=VERSION.nca_id,
        gpu=SPEC.gpu,
        instance_type=SPEC.instance_type,
        created_at=BEGIN,
        updated_at=BEGIN,
        status=status,
        cluster_id=cluster,
    )


INSTANCES = st.lists(
    st.builds(an_instance, st.sampled_from([S.PENDING, S.STARTING, S.READY]), st.sampled_from(["old", "new"])),
    max_size=6,
)


@given(INSTANCES, st.integers(1, 5), st.lists(st.booleans(), min_size=30, max_size=30))
def test_a_drain_ends_and_never_costs_an_instance_that_serves(
    own: list[Instance], desired: int, gets_ready: list[bool]
) -> None:
    """Whatever starts when: as many serve as before, up to what is desired; in the end nothing is left in the old
    place, and exactly what is desired is in the new one.
    """
    spec = replace(SPEC, desired=desired)
    floor = min(desired, sum(i.status is S.READY for i in own))
    for ready in [*gets_ready, *[True] * 20]:
        moving = Moving({i.id for i in own if i.wanted and i.cluster_id == "old"})
        plan = scale(spec, own, BEGIN, POLICY, moving=moving)
        own = [replace(i, wanted=i.wanted and i.id not in plan.retire) for i in own]
        own += [an_instance(S.STARTING, "new") for _ in range(plan.create)]
        assert sum(i.status is S.READY and i.wanted for i in own) >= floor
        if ready:
            own = [replace(i, status=S.READY) if i.cluster_id == "new" else i for i in own]
    assert [i for i in own if i.wanted and i.cluster_id == "old"] == []
    assert sum(i.wanted for i in own) == desired


@given(INSTANCES, st.integers(1, 5))
def test_what_was_waited_for_long_enough_goes_at_once(own: list[Instance], desired: int) -> None:
    """Whether another one is ready or not."""
    old = {i.id for i in own if i.cluster_id == "old"}
    plan = scale(replace(SPEC, desired=desired), own, BEGIN, POLICY, moving=Moving(old, old))
    assert old <= set(plan.retire)

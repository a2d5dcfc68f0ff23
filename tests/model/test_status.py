"""The public status (control-plane page, section 7), and what instances, keys and ids may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from gpufn.model.access import ALL_FUNCTIONS, Principal, Resource
from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.errors import Conflict
from gpufn.model.ids import (
    DEFAULT_ACCOUNT,
    DeploymentId,
    FunctionId,
    InstanceId,
    SpecificationId,
    VersionId,
    is_uuid,
    new_id,
    stable_id,
)
from gpufn.model.instance import Failure, FailureKind, Instance, InstanceStatus as S
from gpufn.model.status import FunctionStatus, condition

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_spec(name: str, minimum: int = 1, maximum: int = 1) -> GpuSpecification:
    """A specification whose GPU and id are ``name``."""
    return GpuSpecification(SpecificationId(name), name, f"type.{name}", minimum, maximum)


def a_deployment(*specs: GpuSpecification) -> Deployment:
    """A wanted deployment."""
    return Deployment(
        DeploymentId("d"), VersionId("v"), FunctionId("f"), DEFAULT_ACCOUNT, DeploymentWanted.UP, specs, NOW, NOW
    )


def an_instance(spec: str = "T10", status: S = S.READY) -> Instance:
    """An instance of a specification; an errored one says why."""
    failure = Failure(FailureKind.EXIT, "exited with code 1") if status is S.ERRORED else None
    return Instance(
        id=InstanceId(f"{spec}-{status}"),
        deployment_id=DeploymentId("d"),
        specification_id=SpecificationId(spec),
        version_id=VersionId("v"),
        function_id=FunctionId("f"),
        nca_id=DEFAULT_ACCOUNT,
        gpu=spec,
        instance_type=f"type.{spec}",
        created_at=NOW,
        updated_at=NOW,
        status=status,
        failure=failure,
    )


@pytest.mark.parametrize(
    ("bounds", "statuses", "failed", "expected"),
    [
        ((1, 1), (S.READY, S.READY), False, ("ACTIVE", 0)),
        ((1, 1), (S.READY, S.ERRORED), False, ("DEPLOYING", 1)),
        ((1, 1), (S.ERRORED, S.ERRORED), True, ("ERROR", 2)),
        ((0, 1), (S.READY, S.READY), False, ("ACTIVE", 0)),
        ((0, 0), (S.READY, S.READY), False, ("ACTIVE", 0)),
    ],
)
def test_errors_propagate_as_the_page_says(
    bounds: tuple[int, int], statuses: Sequence[S], failed: bool, expected: tuple[str, int]
) -> None:
    """The five DeploymentErrorPropagation cases of a T10 and an L40G specification."""
    specs = [a_spec(name, *bounds) for name in ("T10", "L40G")]
    deployment = replace(a_deployment(*specs), failed_at=NOW if failed else None)
    got = condition(deployment, [an_instance(s.id, status) for s, status in zip(specs, statuses, strict=True)])
    assert (got.status.value, len(got.health)) == expected


@pytest.mark.parametrize(
    ("activated", "instances", "expected"),
    [
        (False, [], "DEPLOYING"),
        (True, [S.UNHEALTHY], "DEGRADING"),
        (True, [S.STARTING], "DEGRADING"),
        (True, [S.ERRORED], "DEGRADED"),
        (True, [], "DEGRADED"),
        (True, [S.READY], "ACTIVE"),
    ],
)
def test_a_deployment_that_was_active_degrades(activated: bool, instances: Sequence[S], expected: str) -> None:
    """Without its minimum a version is DEPLOYING until it was once ACTIVE; then what still lives decides."""
    deployment = replace(a_deployment(a_spec("T10")), activated_at=NOW if activated else None)
    got = condition(deployment, [an_instance(status=s) for s in instances])
    assert got.status.value == expected


def test_what_is_not_wanted_is_inactive() -> None:
    """No deployment, or one that drains, is INACTIVE, whatever still runs; only ACTIVE and DEGRADING are invocable."""
    drained = replace(a_deployment(a_spec("T10")), wanted=DeploymentWanted.DRAINED)
    assert condition(None, []).status == condition(drained, [an_instance()]).status == "INACTIVE"
    kinds = type(condition(None, []).status)
    assert {s.value for s in kinds if s.is_invocable} == {"ACTIVE", "DEGRADING"}


@given(st.sampled_from([S.TERMINATED, S.ERRORED]), st.sampled_from(list(S)))
def test_an_ended_instance_stays_ended(ended: S, to: S) -> None:
    """Nothing follows a terminal status, and its instance is not live."""
    instance = an_instance(status=ended)
    assert not instance.is_live
    with pytest.raises(Conflict):
        instance.to(to, now=NOW)


def test_an_instance_keeps_when_it_was_first_ready() -> None:
    """Recovery clears unhealthy_at and leaves ready_at as it was; ending stamps ended_at."""
    later = NOW + timedelta(seconds=9)
    sick = an_instance(status=S.STARTING).to(S.READY, now=NOW).to(S.UNHEALTHY, now=later)
    assert sick.unhealthy_at == later
    well = sick.to(S.READY, now=later)
    assert (well.ready_at, well.unhealthy_at) == (NOW, None)
    assert well.to(S.DRAINING, now=NOW).to(S.TERMINATED, now=later).ended_at == later


@pytest.mark.parametrize(
    ("resources", "reach"),
    [
        (ALL_FUNCTIONS, (True, True, True, True)),
        ((Resource("authorized-functions", "*"),), (False, False, False, False)),
        ((Resource("function", "f/*"),), (False, True, True, True)),
        ((Resource("function", "f/v"),), (False, False, True, False)),
        ((Resource("function", "*"),), (False, False, False, False)),
        ((), (False, False, False, False)),
    ],
)
def test_a_key_reaches_what_its_resources_name(
    resources: tuple[Resource, ...], reach: tuple[bool, bool, bool, bool]
) -> None:
    """Account, function, its version v, its version w: within reach as auth page, section 4.4 lists."""
    key = Principal(DEFAULT_ACCOUNT, "me", frozenset({"invoke_function"}), resources)
    found = (
        key.reaches_account(),
        key.reaches_function("f"),
        key.reaches_version("f", "v"),
        key.reaches_version("f", "w"),
    )
    assert found == reach
    assert key.reaches_version("g", "v") == key.reaches_account()


def test_an_instance_without_a_place_is_nothing_that_starts() -> None:
    """A deployment whose only instance waits for room is DEGRADED; one that starts somewhere makes it DEGRADING."""
    deployment = replace(a_deployment(a_spec("T10")), activated_at=NOW)
    waiting = replace(an_instance(status=S.PENDING), detail="waiting for T10")
    assert condition(deployment, [waiting]).status is FunctionStatus.DEGRADED
    assert condition(deployment, [replace(waiting, cluster_id="c")]).status is FunctionStatus.DEGRADING
    assert condition(deployment, [replace(waiting, detail="")]).status is FunctionStatus.DEGRADING


@given(st.uuids(), st.text(max_size=40))
def test_only_canonical_uuids_are_ids(uuid: object, text: str) -> None:
    """The hyphenated form of either case is an id; without hyphens, in braces or with more text it is not."""
    good = str(uuid)
    assert is_uuid(good)
    assert is_uuid(good.upper())
    assert not is_uuid(good.replace("-", ""))
    assert not is_uuid("{" + good[1:-1] + "}")
    assert not is_uuid(good + text + "x")
    assert is_uuid(new_id())
    assert stable_id(text) == stable_id(text)

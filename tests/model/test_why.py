"""One plain sentence for every state a version or an instance can be in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId
from gpufn.model.instance import Failure, FailureKind, Instance, InstanceStatus as S
from gpufn.model.startup import Mark, StartPhase
from gpufn.model.why import Backlog, of_instance, of_version

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CRASH = Failure(FailureKind.EXIT, "exited with code 1 after 0.2 s; last lines: no such file")


def a_spec(minimum: int = 1, maximum: int = 2) -> GpuSpecification:
    return GpuSpecification(SpecificationId("s"), "H100", "ON-PREM.GPU.H100_1x", minimum, maximum, 1, desired=minimum)


def a_deployment(spec: GpuSpecification | None = None, **changes: object) -> Deployment:
    found = Deployment(
        id=DeploymentId("d"),
        version_id=VersionId("v"),
        function_id=FunctionId("f"),
        nca_id=AccountId("a"),
        wanted=DeploymentWanted.UP,
        specifications=(spec or a_spec(),),
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def an_instance(status: S = S.READY, *, ago: float = 5, **changes: object) -> Instance:
    at = NOW - timedelta(seconds=ago)
    found = Instance(
        id=InstanceId(f"i{ago}"),
        deployment_id=DeploymentId("d"),
        specification_id=SpecificationId("s"),
        version_id=VersionId("v"),
        function_id=FunctionId("f"),
        nca_id=AccountId("a"),
        gpu="H100",
        instance_type="ON-PREM.GPU.H100_1x",
        created_at=at,
        updated_at=at,
        status=status,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def sentence(deployment: Deployment | None, *own: Instance, queued: int = 0) -> str:
    return of_version("echo", deployment, own, Backlog(queued)).sentence


def test_a_version_that_is_not_deployed_says_how_to_deploy_it() -> None:
    """The remedy is in the sentence."""
    assert sentence(None) == "echo is not deployed, so nothing runs and calls are refused; `gpufn deploy echo`"


def test_a_start_says_what_it_is_doing() -> None:
    """A deployment that is not up yet counts what is missing and says what the first start does."""
    said = sentence(a_deployment(), an_instance(S.STARTING, detail="pulling 41 %"))

    assert said == "echo is DEPLOYING: 0 of 1 instances are ready; 1 instance starting: pulling 41 %"


def test_a_crash_loop_is_called_so() -> None:
    """Several failures without a success between them are counted, and the last one is quoted."""
    crashes = [an_instance(S.ERRORED, ago=n, failure=CRASH, ended_at=NOW - timedelta(seconds=n)) for n in (9, 6, 3)]

    assert sentence(a_deployment(), *crashes).endswith(
        f"crash loop: 3 instances in a row failed, the last one: {CRASH.message}"
    )
    assert sentence(a_deployment(), crashes[0]).endswith(f"the last one failed: {CRASH.message}")


def test_a_failed_deployment_says_what_to_do() -> None:
    """ERROR quotes the failure and names the way out."""
    said = sentence(a_deployment(failed_at=NOW, failure="no image 'x'"))

    assert said == (
        "echo is in ERROR: the deployment failed: no image 'x'; put that right, undeploy it, and deploy again"
    )


def test_no_free_slot_is_told_with_the_limit_that_is_reached() -> None:
    """What waits for slots says so; when no more instances may be started it names the bound."""
    one, two = an_instance(ago=5), an_instance(ago=6)
    up = a_deployment(activated_at=NOW)

    assert sentence(up, one, queued=3) == (
        "echo is ACTIVE, and no slot is free: 3 requests wait for 1 slots of 1 instances; "
        "more instances are started as scaling decides"
    )
    assert sentence(up, one, two, queued=1).endswith(
        "all of maxInstances run; raise maxInstances, or maxRequestConcurrency"
    )


def test_zero_instances_are_explained() -> None:
    """Scaled to zero is no fault; with a request waiting it says that an instance is on its way."""
    up = a_deployment(a_spec(0), activated_at=NOW)

    assert "scaled to zero" in sentence(up)
    assert sentence(up, an_instance(S.STARTING, detail="starting"), queued=1) == (
        "echo is ACTIVE, but no instance is ready: 1 request waits; 1 instance starting: starting"
    )


def test_an_unhealthy_instance_quotes_its_health_check() -> None:
    """The answer of the health check is the reason."""
    ill = an_instance(S.UNHEALTHY, detail="health check: answered 500", unhealthy_at=NOW - timedelta(minutes=3))

    assert "1 instance unhealthy: health check: answered 500" in sentence(a_deployment(activated_at=NOW), ill)
    assert of_instance(ill, NOW).sentence == (
        "the instance gets no new requests since 3 min: health check: answered 500"
    )


def test_a_start_shows_where_its_time_goes() -> None:
    """An instance that starts names its phase; its facts say what the earlier ones took."""
    marks = (Mark(StartPhase.PULLING, NOW - timedelta(seconds=5)), Mark(StartPhase.LOADING, NOW - timedelta(seconds=2)))
    said = of_instance(an_instance(S.STARTING, phases=marks, detail="waiting for the health check"), NOW)

    assert said.sentence == "the instance is starting since 5 s, in phase loading: waiting for the health check"
    assert ("start", "pulling 3.0 s") in said.facts


@given(
    st.lists(st.tuples(st.sampled_from(list(S)), st.booleans(), st.booleans()), max_size=4),
    st.integers(0, 3),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
def test_every_state_has_a_sentence(
    shapes: list[tuple[S, bool, bool]], queued: int, minimum: int, activated: bool, failed: bool
) -> None:
    """Whatever is recorded, there is one line that says something, and every instance has one too."""
    own = [
        an_instance(status, ago=n, wanted=wanted, failure=CRASH if failing else None)
        for n, (status, wanted, failing) in enumerate(shapes)
    ]
    deployment = a_deployment(
        a_spec(minimum), activated_at=NOW if activated else None, failed_at=NOW if failed else None
    )
    for text in [sentence(deployment, *own, queued=queued), *(of_instance(i, NOW).sentence for i in own)]:
        assert len(text) > 20
        assert "\n" not in text

"""What looks at a cluster say about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from gpufn.controllers.cluster_plan import Look, is_news, seen
from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, ClusterStatus, Health

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=100)
LOST = Health(NOW, failing_at=NOW, lost_at=NOW, problem="gone")


def test_a_cluster_is_given_up_after_its_time_of_silence_only() -> None:
    """A short silence makes it UNHEALTHY; a long one has it given up; one that never answered cannot be lost."""
    short = seen(Health(NOW), Look("refused", failing_for=59), LATER, lost_after=60)
    assert (short.failing_at, short.lost_at, short.problem) == (LATER, None, "refused")
    assert seen(short, Look("refused", failing_for=60), LATER, lost_after=60).lost_at == LATER
    assert seen(Health(), Look("refused", failing_for=1000), LATER, lost_after=60).lost_at is None


def test_a_cluster_that_came_back_is_used_when_nothing_strange_runs_there() -> None:
    """As long as something runs there that was replaced it stays given up, and says so."""
    fenced = seen(LOST, Look(strangers=2), LATER, lost_after=60)
    assert fenced.lost_at == NOW
    assert "2 instances that were replaced meanwhile" in fenced.problem
    assert seen(fenced, Look(), LATER, lost_after=60) == Health(LATER)


def test_answers_are_written_now_and_then() -> None:
    """That a cluster goes on answering is no news until some time has passed; any other change is."""
    assert not is_news(Health(NOW), Health(NOW + timedelta(seconds=5)), every=30)
    assert is_news(Health(NOW), Health(NOW + timedelta(seconds=30)), every=30)
    assert is_news(Health(), Health(NOW), every=30)
    assert is_news(Health(NOW), Health(NOW, failing_at=NOW, problem="x"), every=30)


LOOKS = st.lists(
    st.builds(Look, st.sampled_from(["", "refused"]), st.floats(0, 200), st.integers(0, 2)), min_size=1, max_size=30
)


@given(LOOKS)
def test_whatever_is_seen_the_fence_holds(looks: list[Look]) -> None:
    """It is never lost without failing, never used while lost, and used again only by a look without strangers."""
    health = Health()
    for n, look in enumerate(looks):
        before, health = health, seen(health, look, NOW + timedelta(seconds=n), lost_after=60)
        if health.lost_at is not None:
            assert health.failing_at is not None
        if before.lost_at is not None and health.lost_at is None:
            assert not look.problem
            assert look.strangers == 0
        cluster = Cluster("c", "c", "g", "g", "r", (), kind=ClusterKind.DOCKER, health=health)
        assert cluster.answers == (health.seen_at is not None and health.failing_at is None)
        assert not (cluster.is_lost and cluster.answers)


def test_the_public_status_is_derived() -> None:
    """New: NOT_READY; silent: UNHEALTHY; silent for 30 days: ABANDONED; else what its operator wants."""

    def status(health: Health, mode: ClusterMode = ClusterMode.READY, now: datetime = NOW) -> ClusterStatus:
        return Cluster("c", "c", "g", "g", "r", (), kind=ClusterKind.DOCKER, health=health, mode=mode).status(now)

    assert status(Health()) is ClusterStatus.NOT_READY
    assert status(Health(NOW)) is ClusterStatus.READY
    assert status(Health(NOW), ClusterMode.CORDON) is ClusterStatus.CORDON
    assert status(Health(NOW), ClusterMode.CORDON_AND_DRAIN) is ClusterStatus.CORDON_AND_DRAIN
    assert status(LOST) is ClusterStatus.UNHEALTHY
    assert status(LOST, now=NOW + timedelta(days=30)) is ClusterStatus.ABANDONED
    assert Cluster("c", "c", "g", "g", "r", ()).status(NOW) is ClusterStatus.READY

"""The pure decisions: what is driven by them ends where it should, whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_world import BEGIN, a_deployment, a_spec, a_version
from hypothesis import given, strategies as st

from gpufn.compute.backend import Observation, Phase
from gpufn.controllers.deployments import _new_instance, restart_policy
from gpufn.controllers.instances import limits
from gpufn.controllers.plan import Become, Fail, Launch, Sight, Terminate, gives_up, restart_delay, scale, step
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Address, Failure, FailureKind, Instance, InstanceStatus as S
from gpufn.settings import ControllerSettings

SETTINGS = ControllerSettings()
POLICY, LIMITS = restart_policy(SETTINGS), limits(SETTINGS)
ADDRESS = Address("127.0.0.1", 1, 1)
EVENTS = ("pass", "crash", "run", "exit", "vanish", "sick", "well", "retire", "hour")


class OneInstance:
    """A row, what runs behind it, and a loop that may crash between doing and saving."""

    def __init__(self) -> None:
        spec = a_spec()
        self.row = _new_instance(a_deployment(a_version(), spec), spec, BEGIN)
        self.seen = Observation(Phase.ABSENT)
        self.problem: str | None = None
        self.now = BEGIN

    def happen(self, event: str) -> None:
        """Let one thing happen."""
        self.now += timedelta(hours=1) if event == "hour" else timedelta(seconds=1)
        up = self.seen.phase in (Phase.PREPARING, Phase.RUNNING)
        if event in ("pass", "crash"):
            self._pass(saves=event == "pass")
        elif event == "run" and up:
            self.seen = Observation(Phase.RUNNING, address=ADDRESS)
        elif event == "exit" and up:
            self.seen = Observation(Phase.EXITED, failure=Failure(FailureKind.EXIT, "exited with code 1"))
        elif event == "vanish":
            self.seen = Observation(Phase.ABSENT)
        elif event in ("sick", "well"):
            self.problem = "answered 503" if event == "sick" else None
        elif event == "retire" and self.row.is_live:
            self.row = replace(self.row, wanted=False)

    def _pass(self, *, saves: bool) -> None:
        sight = Sight(self.seen, self.seen.phase is Phase.RUNNING, self.problem, drained=True)
        after = self.row
        match step(self.row, sight, self.now, limits=LIMITS):
            case Launch():
                if self.seen.phase is Phase.ABSENT:
                    self.seen = Observation(Phase.PREPARING)
                after = self.row if self.row.status is S.STARTING else self.row.to(S.STARTING, now=self.now)
            case Terminate():
                self.seen = Observation(Phase.ABSENT)
            case Fail(failure):
                after = replace(self.row, failure=failure)
            case Become(status):
                after = self.row.to(status, now=self.now, failure=self.row.failure)
        self.row = after if saves else self.row


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_nothing_is_left_behind(events: list[str]) -> None:
    """Whatever happens, and wherever a pass crashes, a retired instance ends, and nothing of it runs."""
    one = OneInstance()
    for event in [*events, "retire"] + ["pass"] * 6:
        one.happen(event)
        if not one.row.is_live:
            assert one.seen.phase is Phase.ABSENT
    assert not one.row.is_live


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_a_failure_keeps_its_reason(events: list[str]) -> None:
    """An instance that ends in ERRORED always says why."""
    one = OneInstance()
    for event in events:
        one.happen(event)
    assert one.row.status is not S.ERRORED or (one.row.failure is not None and one.row.failure.message)


def _with_status(status: S, number: int) -> Instance:
    one = OneInstance().row
    failure = Failure(FailureKind.EXIT, "exited") if status is S.ERRORED else None
    ended = BEGIN + timedelta(seconds=number) if status in (S.ERRORED, S.TERMINATED) else None
    return replace(one, specification_id=SPEC.id, status=status, failure=failure, ended_at=ended)


SPEC = a_spec(1, 4)


@given(st.lists(st.sampled_from(list(S)), max_size=12), st.integers(0, 9))
def test_scale_converges_within_bounds(statuses: list[S], desired: int) -> None:
    """Once the back-off has passed, one plan leads to exactly the desired number, never above the maximum."""
    spec = replace(SPEC, desired=desired)
    own = [_with_status(status, n) for n, status in enumerate(statuses)]
    plan = scale(spec, own, BEGIN + timedelta(hours=1), POLICY)
    live = sum(i.is_live for i in own)
    assert live + plan.create - len(plan.retire) == min(max(desired, 1), 4)
    assert not (plan.create and plan.retire)
    rank = [i.status for i in own if i.id in plan.retire]
    assert S.READY not in rank or all(i.status not in (S.PENDING, S.STARTING) or i.id in plan.retire for i in own)


@given(st.lists(st.tuples(st.sampled_from([S.STARTING, S.READY]), st.booleans()), max_size=8), st.integers(0, 5))
def test_busy_instances_stay(states: list[tuple[S, bool]], desired: int) -> None:
    """A busy instance goes only when there are more than the maximum; with nobody to tell, none that was ready goes."""
    spec = replace(SPEC, desired=desired)
    own = [
        replace(_with_status(status, n), id=InstanceId(f"i{n}"), ready_at=BEGIN if status is S.READY else None)
        for n, (status, _) in enumerate(states)
    ]
    busy = {i.id for i, (status, works) in zip(own, states, strict=True) if works and status is S.READY}
    for known in (busy, None):
        plan = scale(spec, own, BEGIN, POLICY, busy=known)
        held = {i.id for i in own if i.ready_at} if known is None else known
        gone = held & {*plan.retire}
        assert len(gone) <= max(len(own) - spec.max_instances, 0)
        assert len(own) - len(plan.retire) <= spec.max_instances
        target = min(max(desired, 1), 4)
        assert (plan.wait is not None) == (len(own) - len(plan.retire) > target)


@given(st.integers(1, 12))
def test_back_off_grows_to_its_cap(failures: int) -> None:
    """The pause doubles with every failure in a row, and attempts are counted until the deployment is given up."""
    own = [_with_status(S.ERRORED, n) for n in range(failures)]
    last = BEGIN + timedelta(seconds=failures - 1)
    assert restart_delay(SPEC, own, last, POLICY) == (min(2 ** (failures - 2), 60) if failures > 1 else 0)
    given_up = gives_up(a_deployment(a_version(), SPEC), own, POLICY)
    assert (given_up is not None) == (failures >= SETTINGS.attempts)

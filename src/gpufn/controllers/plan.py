"""What to do next, decided from what is wanted, recorded and seen. Pure: no I/O, no clock, nothing kept.

``scale`` compares a GPU specification with its instances, ``gives_up`` says when a deployment has failed, ``step``
moves one instance. A failing instance is first recorded as such (``Fail``), then terminated, then ``ERRORED``:
whichever of the three a crash falls between, the reason is not lost and nothing is left running.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never

from gpufn.compute.backend import Observation, Phase
from gpufn.model.deployment import Deployment, GpuSpecification
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind, Instance, InstanceStatus as S
from gpufn.model.status import ready_count
from gpufn.runtime.backoff import Backoff

FASTEST_POLL, SLOWEST_POLL = 0.025, 0.5
"""Seconds between two looks at an instance that is on its way up or down."""
WATCH = 1.0
"""Seconds between two looks at an instance that is up: the end of a process is noticed within this time."""
BUSY_LOOK = 1.0
"""Seconds between two looks at a specification that has too many instances, all of them busy."""
LEAST_ADVANCED_FIRST = {
    S.PENDING: 0,
    S.STARTING: 1,
    S.UNHEALTHY: 2,
    S.READY: 3,
    S.DRAINING: 4,
    S.TERMINATED: 5,
    S.ERRORED: 5,
}


@dataclass(frozen=True)
class RestartPolicy:
    """How failed instances are replaced. An instance that was ready for ``stable`` counts as a success."""

    attempts: int
    backoff: Backoff
    stable: timedelta


@dataclass(frozen=True)
class Moving:
    """The instances in clusters that are drained, by id, and those of them that were waited for long enough."""

    ids: Collection[str]
    overdue: Collection[str] = ()


@dataclass(frozen=True)
class ScalePlan:
    """Instances to create and to retire. ``wait``: seconds after which to look again: until a failed one may be
    replaced, or while those that are too many are busy.
    """

    create: int = 0
    retire: tuple[InstanceId, ...] = ()
    wait: float | None = None


def scale(
    spec: GpuSpecification,
    instances: Sequence[Instance],
    now: datetime,
    policy: RestartPolicy,
    *,
    busy: Collection[str] | None = (),
    moving: Moving | None = None,
) -> ScalePlan:
    """Bring the number of wanted live instances of ``spec`` to what is desired, within its bounds.

    ``busy`` are the ids of those that serve something; None: nobody knows. A busy instance goes only when there are
    more than the maximum. ``moving`` are those whose cluster is drained.
    """
    wanted = [i for i in of_specification(spec, instances) if i.is_live and i.wanted]
    if moving is not None and any(i.id in moving.ids for i in wanted):
        return _moved(spec, instances, now, policy, moving)
    target = min(max(spec.desired, spec.min_instances), spec.max_instances)
    surplus = len(wanted) - target
    if surplus > 0:
        return _fewer(wanted, surplus, beyond=len(wanted) - spec.max_instances, busy=busy)
    if surplus == 0:
        return ScalePlan()
    delay = restart_delay(spec, instances, now, policy)
    return ScalePlan(wait=delay) if delay > 0 else ScalePlan(create=-surplus)


def _moved(
    spec: GpuSpecification, instances: Sequence[Instance], now: datetime, policy: RestartPolicy, moving: Moving
) -> ScalePlan:
    """Others first take the place of those that are to go: each goes when one more is ready elsewhere, or when the time
    for that is over. For as long there may be more than the maximum.
    """
    wanted = [i for i in of_specification(spec, instances) if i.is_live and i.wanted]
    going = sorted((i for i in wanted if i.id in moving.ids), key=lambda i: (LEAST_ADVANCED_FIRST[i.status], i.id))
    staying = [i for i in wanted if i.id not in moving.ids]
    target = min(max(spec.desired, spec.min_instances), spec.max_instances)
    ready = sum(i.status is S.READY for i in staying)
    spare = max(0, ready + len(going) - target)
    retire = [i.id for n, i in enumerate(going) if n < spare or i.id in moving.overdue]
    missing = max(0, target - len(staying))
    delay = restart_delay(spec, instances, now, policy) if missing else 0.0
    return ScalePlan(create=0 if delay > 0 else missing, retire=tuple(retire), wait=delay or BUSY_LOOK)


def _fewer(wanted: Sequence[Instance], surplus: int, *, beyond: int, busy: Collection[str] | None) -> ScalePlan:
    """Retire ``surplus`` instances: idle ones, and busy ones only as far as they are ``beyond`` the maximum."""

    def works(instance: Instance) -> bool:
        return instance.ready_at is not None and (busy is None or instance.id in busy)

    order = sorted(wanted, key=lambda i: (works(i), LEAST_ADVANCED_FIRST[i.status], -i.created_at.timestamp(), i.id))
    victims = [i for n, i in enumerate(order[:surplus]) if n < beyond or not works(i)]
    return ScalePlan(retire=tuple(i.id for i in victims), wait=BUSY_LOOK if len(victims) < surplus else None)


def of_specification(spec: GpuSpecification, instances: Sequence[Instance]) -> list[Instance]:
    """Those of ``instances`` that were created for ``spec``."""
    return [i for i in instances if i.specification_id == spec.id]


def failure_streak(spec: GpuSpecification, instances: Sequence[Instance], policy: RestartPolicy) -> list[Instance]:
    """The failed instances of ``spec`` since the last success, in the order in which they ended.

    A success is an instance that is ready now, or was for at least ``policy.stable``: one that gets ready only to die
    again does not put the back-off to zero.
    """
    own = of_specification(spec, instances)
    last_success = max((i.ready_at for i in own if i.ready_at and _succeeded(i, i.ready_at, policy)), default=None)
    failed = [(i.ended_at, i.id, i) for i in own if _is_attempt(i) and i.ended_at is not None]
    return [i for ended_at, _, i in sorted(failed) if last_success is None or ended_at > last_success]


def _is_attempt(instance: Instance) -> bool:
    """Whether it failed by itself: one that went with its cluster says nothing about the next."""
    lost_its_cluster = instance.failure is not None and instance.failure.kind is FailureKind.CLUSTER
    return instance.status is S.ERRORED and not lost_its_cluster


def _succeeded(instance: Instance, ready_at: datetime, policy: RestartPolicy) -> bool:
    if instance.is_live:
        return instance.status is S.READY
    return instance.ended_at is not None and instance.ended_at - ready_at >= policy.stable


def restart_delay(spec: GpuSpecification, instances: Sequence[Instance], now: datetime, policy: RestartPolicy) -> float:
    """Seconds until a new instance of ``spec`` may be started; 0 when it may be now, as after a first failure."""
    streak = failure_streak(spec, instances, policy)
    if not streak:
        return 0.0
    last = streak[-1].ended_at or now
    return max(0.0, policy.backoff.delay(len(streak) - 1) - (now - last).total_seconds())


def gives_up(deployment: Deployment, instances: Sequence[Instance], policy: RestartPolicy) -> str | None:
    """Why a deployment that was never active cannot become so, or None to keep trying.

    It has failed when every specification that needs instances is hopeless: as long as one of them has a ready
    instance the deployment stays DEPLOYING and the others are retried (control-plane page, section 7).
    """
    needed = [spec for spec in deployment.specifications if spec.min_instances > 0]
    if deployment.activated_at is not None or not needed:
        return None
    reasons = [_hopeless(spec, instances, policy) for spec in needed]
    given = [reason for reason in reasons if reason is not None]
    return "; ".join(dict.fromkeys(given)) if len(given) == len(needed) else None


def _hopeless(spec: GpuSpecification, instances: Sequence[Instance], policy: RestartPolicy) -> str | None:
    streak = failure_streak(spec, instances, policy)
    if not streak or ready_count(spec, instances) > 0:
        return None
    permanent = next((i.failure for i in streak if i.failure is not None and i.failure.permanent), None)
    if permanent is not None:
        return permanent.message
    if len(streak) < max(policy.attempts, spec.min_instances):
        return None
    last = streak[-1].failure
    message = last.message if last is not None else "it ended"
    return f"{len(streak)} instances in a row failed, the last one: {message}"


@dataclass(frozen=True)
class Limits:
    """How long an instance may take for what, and how long nothing need be looked at."""

    ready: timedelta
    unhealthy: timedelta
    drain: timedelta


@dataclass(frozen=True)
class Sight:
    """What is seen of an instance now. ``problem`` is the probe's answer, worth something only if ``probed``."""

    observation: Observation
    probed: bool = False
    problem: str | None = None
    drained: bool = False
    """No gateway has, or could still give, work to it."""
    lost: str | None = None
    """Why its whole cluster counts as lost; then nothing can be seen, and nothing be ended."""

    @property
    def phase(self) -> Phase:
        return self.observation.phase


@dataclass(frozen=True)
class Launch:
    """Ask the backend to run it; repeating that is harmless."""


@dataclass(frozen=True)
class Terminate:
    """Ask the backend to end it, and look again after ``wait`` seconds."""

    wait: float


@dataclass(frozen=True)
class Become:
    """Record a new status."""

    status: S
    detail: str = ""


@dataclass(frozen=True)
class Fail:
    """Record why it failed; it is terminated next."""

    failure: Failure


@dataclass(frozen=True)
class Wait:
    """Nothing to do for ``seconds``; ``detail`` says to people what it is doing."""

    seconds: float
    detail: str = ""


Step: TypeAlias = Launch | Terminate | Become | Fail | Wait


def step(instance: Instance, sight: Sight, now: datetime, *, limits: Limits) -> Step | None:
    """The next step of one instance; None when it has ended. ``instance.wanted`` is what counts as wanted."""
    if instance.is_live and instance.failure is not None:
        return _stop(instance, sight, now, ending=S.ERRORED)
    match instance.status:
        case S.PENDING:
            return Launch() if instance.wanted else _stop(instance, sight, now, ending=S.TERMINATED)
        case S.STARTING | S.READY | S.UNHEALTHY if not instance.wanted:
            return Become(S.DRAINING)
        case S.STARTING:
            return _starting(instance, sight, now, limits)
        case S.READY | S.UNHEALTHY:
            return _running(instance, sight, now, limits)
        case S.DRAINING:
            return _draining(instance, sight, now, limits)
        case S.TERMINATED | S.ERRORED:
            return None
        case _ as never:
            assert_never(never)


def poll(since: datetime, now: datetime) -> float:
    """Seconds until the next look at something that changes: a tenth of how long it has taken, within bounds."""
    return min(SLOWEST_POLL, max(FASTEST_POLL, (now - since).total_seconds() / 10))


def _stop(instance: Instance, sight: Sight, now: datetime, *, ending: S) -> Step:
    if sight.phase is Phase.ABSENT:
        return Become(ending)
    return Terminate(wait=poll(instance.updated_at, now))


def _starting(instance: Instance, sight: Sight, now: datetime, limits: Limits) -> Step:
    if sight.lost is not None:
        return Fail(Failure(FailureKind.CLUSTER, sight.lost))
    seen = sight.observation
    if seen.phase is Phase.EXITED:
        return Fail(seen.failure or _ended())
    if seen.phase is Phase.ABSENT:  # without an address it was never seen to run: the launch itself got lost
        return Launch() if instance.address is None else Fail(_lost())
    if seen.phase is Phase.RUNNING and sight.probed and sight.problem is None:
        return Become(S.READY)
    doing = f"waiting for the health check: {sight.problem}" if sight.problem else seen.detail
    if now - instance.created_at >= limits.ready:
        return Fail(_too_slow(limits.ready, doing, preparing=seen.phase in (Phase.PREPARING, Phase.STARTING)))
    return Wait(poll(instance.created_at, now), doing)


def _running(instance: Instance, sight: Sight, now: datetime, limits: Limits) -> Step:
    if sight.lost is not None:
        return Fail(Failure(FailureKind.CLUSTER, sight.lost))
    seen = sight.observation
    if seen.phase is Phase.EXITED:
        return Fail(seen.failure or _ended())
    if seen.phase is Phase.ABSENT:
        return Fail(_lost())
    problem = sight.problem or ("" if seen.phase is Phase.RUNNING else seen.detail or "it is being prepared again")
    if problem:
        return _sick(instance, problem, now, limits)
    if instance.status is S.UNHEALTHY and sight.probed:
        return Become(S.READY)
    return Wait(WATCH, instance.detail)


def _sick(instance: Instance, problem: str, now: datetime, limits: Limits) -> Step:
    if instance.status is S.READY:
        return Become(S.UNHEALTHY, f"health check: {problem}")
    if instance.unhealthy_at is not None and now - instance.unhealthy_at >= limits.unhealthy:
        return Fail(
            Failure(
                FailureKind.HEALTH,
                f"its health check failed for {limits.unhealthy.total_seconds():g} s: {problem}; see its log",
            )
        )
    return Wait(WATCH, f"health check: {problem}")


def _draining(instance: Instance, sight: Sight, now: datetime, limits: Limits) -> Step:
    since = instance.draining_at or instance.updated_at
    may_be_busy = sight.phase is Phase.RUNNING and instance.ready_at is not None and not sight.drained
    if may_be_busy and now - since < limits.drain:
        return Wait(poll(since, now), "finishing its requests")
    return _stop(instance, sight, now, ending=S.TERMINATED)


def _ended() -> Failure:
    return Failure(FailureKind.EXIT, "it ended and left no reason; see its log")


def _lost() -> Failure:
    return Failure(FailureKind.LOST, "it vanished without a trace, as after a restart of the machine; it is replaced")


def _too_slow(limit: timedelta, doing: str, *, preparing: bool) -> Failure:
    kind = FailureKind.START if preparing else FailureKind.HEALTH
    return Failure(kind, f"it was not ready within {limit.total_seconds():g} s ({doing or 'starting'}); see its log")

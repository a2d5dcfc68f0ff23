"""The whole control plane, killed at any call it makes to its database or its backend, and what it may never do.

Controllers are driven pass by pass, in random order, on a clock that only this test moves. A crash is an exception
that nothing in the code can catch; after it new controllers start over the same database and the same backend.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias, TypeVar

import pytest
from control_world import ControlWorld, a_context, a_database, a_spec, a_version
from hypothesis import HealthCheck, example, given, settings, strategies as st

from gpufn.compute.backend import BackendError, LaunchRequest, Observation
from gpufn.compute.fake import FakeBackend
from gpufn.model.deployment import Deployment
from gpufn.model.errors import Unavailable
from gpufn.model.ids import InstanceId, SpecificationId, new_id
from gpufn.model.instance import Instance, InstanceStatus as S
from gpufn.settings import ControllerSettings
from gpufn.store import instances
from gpufn.store.database import Sqlite, Transaction
from gpufn.wire.feed import Known, Route

T = TypeVar("T")

QUICK = ControllerSettings(
    restart_base=1, restart_cap=8, unhealthy_timeout=20, drain_timeout=20, stop_grace=5, idle_to_zero=30, keep_ended=60
)
PATIENCE = 40
"""Rounds after the last event within which everything must be as wanted."""
PAUSES = (1.0, 2.0, 30.0)
"""Seconds between those rounds, in turn: for what is quick, for restarts, and for what goes only when long idle."""
MEMORY = 100.0
"""Seconds for which the autoscaler may keep, or still start, instances for a load that is over."""


class Crash(BaseException):
    """The control plane's process is gone. No ``except Exception`` stops it, as none stops a kill."""


class HandLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until ``hand`` is moved."""

    hand = 0.0

    def time(self) -> float:
        return self.hand


@dataclass(frozen=True)
class Deploy:
    """POST deployment, with these bounds; nothing if there is one."""

    bounds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Undeploy:
    """DELETE deployment, if there is one."""

    graceful: bool


@dataclass(frozen=True)
class Resize:
    """PATCH of the first specification's bounds."""

    minimum: int
    maximum: int


@dataclass(frozen=True)
class Harm:
    """What runs as the ``which``-th instance ends, vanishes, gets ill or gets well."""

    how: str
    which: int


@dataclass(frozen=True)
class Work:
    """The gateway reports that much; what is in flight is on the ``which``-th routed instance."""

    queued: int
    in_flight: int
    which: int


@dataclass(frozen=True)
class Stray:
    """Something that nobody recorded runs in the backend."""


Event: TypeAlias = Deploy | Undeploy | Resize | Harm | Work | Stray


@dataclass(frozen=True)
class Fault:
    """Strikes the ``at``-th call of verb ``of`` (empty: any). ``event``: what others do before it, in a race."""

    of: str
    at: int
    kind: str
    event: Event | None = None


@dataclass(frozen=True)
class Step:
    """Something happens, time goes by, and every controller passes over each of its keys, shuffled by ``order``."""

    event: Event | None
    pause: float
    order: int
    fault: Fault | None


class Trap:
    """Sits between the controllers and what they call; does to one call what the fault says."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.calls = 0
        self.race: Callable[[Event], Awaitable[None]] | None = None

    def arm(self, fault: Fault | None) -> None:
        self.fault, self.calls = fault, 0

    async def around(self, verb: str, call: Callable[[], Awaitable[T]], refusal: Exception) -> T:
        """Make the call, unless this is the one that fails."""
        fault = self.fault
        self.calls += fault is not None and fault.of in ("", verb)
        if fault is None or fault.of not in ("", verb) or self.calls < fault.at:
            return await call()
        self.fault = None
        if fault.kind == "crash before":
            raise Crash
        if fault.kind == "refused":
            raise refusal
        if fault.event is not None and self.race is not None:
            await self.race(fault.event)
        answer = await call()
        if fault.kind == "crash after":
            raise Crash
        return answer


class TrappedDatabase(Sqlite):
    """A database in memory that may be the last thing a control plane called."""

    def __init__(self, trap: Trap) -> None:
        plain = a_database()
        self.path, self.engine = plain.path, plain.engine
        self._trap = trap

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        plain = super().run
        return await self._trap.around("run", lambda: plain(fn), Unavailable("the disk is full"))


class TrappedBackend(FakeBackend):
    """A backend that may be the last thing a control plane called."""

    def __init__(self, trap: Trap) -> None:
        super().__init__(prepare=1, ready=1, stop=2)
        self._trap = trap

    async def _guarded(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self._trap.around(verb, call, BackendError("no answer"))

    async def launch(self, request: LaunchRequest) -> None:
        plain = super().launch
        await self._guarded("launch", lambda: plain(request))

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        plain = super().observe
        return await self._guarded("observe", lambda: plain(ids))

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        plain = super().terminate
        await self._guarded("terminate", lambda: plain(instance_id, grace=grace))

    async def forget(self, instance_id: InstanceId) -> None:
        plain = super().forget
        await self._guarded("forget", lambda: plain(instance_id))

    async def list(self) -> Sequence[InstanceId]:
        return await self._guarded("list", super().list)


class Drill:
    """A control plane under attack, and what is known of the attack."""

    def __init__(self, loop: HandLoop) -> None:
        self.loop, self.trap = loop, Trap()
        self.trap.race = self.happen
        self.db, self.backend = TrappedDatabase(self.trap), TrappedBackend(self.trap)
        self.world = ControlWorld(a_context(self.backend, settings=QUICK, db=self.db), self.backend)
        self.harmed: Counter[InstanceId] = Counter()
        self.strays: set[InstanceId] = set()
        self.ceilings: dict[SpecificationId, int] = {}
        self.ended: set[InstanceId] = set()

    def restart(self) -> None:
        """New controllers over what the old ones left. The gateway goes on with what it has."""
        old = self.world
        self.world = ControlWorld(a_context(self.backend, settings=QUICK, db=self.db), self.backend)
        self.world.version, self.world.gateway_load = old.version, old.gateway_load

    async def take(self, step: Step) -> None:
        """A step. Its fault waits for its call, in later steps too if need be."""
        self.trap.fault, waiting = None, self.trap.fault
        if step.event is not None:
            await self.happen(step.event)
        self.loop.hand += step.pause
        self.trap.fault = waiting
        if step.fault is not None:
            self.trap.arm(step.fault)
        try:
            await self.round(step.order)
        except Crash:
            self.restart()
        self.check()

    async def round(self, order: int) -> None:
        """Every controller over all its keys; a refused call ends one pass, as the control loop has it."""
        world = self.world.controllers
        passes: list[tuple[Callable[[str], Awaitable[float | None]], str]] = []
        for one in (world.routes, world.deployments, world.instances, world.autoscaler, world.reaper):
            try:
                passes += [(one.reconcile, key) for key in sorted(await one.keys())]
            except (BackendError, Unavailable):
                continue
        Random(order).shuffle(passes)
        for reconcile, key in passes:
            with contextlib.suppress(BackendError, Unavailable):
                await reconcile(key)
            if reconcile in (world.deployments.reconcile, world.instances.reconcile):
                self.check()

    async def happen(self, event: Event) -> None:
        """What users, gateways, machines and time do; nothing where it makes no sense now."""
        deployed = await self.world.is_deployed()
        match event:
            case Deploy(bounds) if not deployed:
                self._allow(await self.world.deploy(*(a_spec(*b, order=n) for n, b in enumerate(bounds, 1))))
            case Undeploy(graceful) if deployed:
                await self.world.undeploy(graceful=graceful)
            case Resize(minimum, maximum) if deployed:
                await self.world.resize(minimum, maximum)
                self._allow(await self.world.deployment())
            case Harm(how, which):
                await self._harm(how, which)
            case Work(queued, in_flight, which):
                routed = self.world.routed()
                busy = {routed[which % len(routed)]: in_flight} if routed and in_flight else {}
                self.world.work(queued, in_flight if busy else 0, **busy)
            case Stray() if self.backend.launches:
                stray = replace(self.backend.launches[-1], instance_id=InstanceId(new_id()))
                self.strays.add(stray.instance_id)
                await FakeBackend.launch(self.backend, stray)
            case _:
                pass

    def _allow(self, deployment: Deployment) -> None:
        for spec in deployment.specifications:
            self.ceilings[spec.id] = max(self.ceilings.get(spec.id, 0), spec.max_instances)

    async def _harm(self, how: str, which: int) -> None:
        running = sorted(await FakeBackend.list(self.backend))
        if not running:
            return
        victim = running[which % len(running)]
        self.harmed[victim] += how != "heal"
        match how:
            case "exit":
                self.backend.exit(victim)
            case "lose":
                self.backend.lose(victim)
            case _:
                self.backend.sicken(victim, None if how == "heal" else "answered 503")

    def rows(self) -> list[Instance]:
        """Every recorded instance, read past the trap."""
        with self.db.engine.begin() as tx:
            return instances.of_version(tx, self.world.version.id)

    def running(self) -> set[InstanceId]:
        """What has something running, seen past the trap."""
        now = self.loop.time()
        return {i for i, one in self.backend.instances.items() if one.seen(now).phase in ("preparing", "running")}

    def check(self) -> None:
        """What holds after every pass, every crash and every event."""
        rows = self.rows()
        live = {i.id for i in rows if i.is_live}
        wanted = Counter(i.specification_id for i in rows if i.is_live and i.wanted)
        assert all(count <= self.ceilings[spec] for spec, count in wanted.items()), "more than the maximum"
        assert self.running() - self.strays <= live, "something runs that no live instance accounts for"
        for instance_id, count in Counter(r.instance_id for r in self.backend.launches).items():
            assert count <= 1 + self.harmed[instance_id], "started again although nothing had happened to it"
        blamed = {i.id for i in rows if i.failure is not None}
        assert blamed <= set(self.harmed), "a crash of the control plane was taken for a failure of an instance"
        assert all(i.failure for i in rows if i.status is S.ERRORED), "the reason of a failure was lost"
        assert not self.ended & live, "an instance that had ended is live again"
        self.ended |= {i.id for i in rows} - live

    async def settle(self) -> None:
        """Nothing happens any more: within ``PATIENCE`` rounds all is as wanted, and it stays so."""
        self.trap.arm(None)
        for one in self.backend.instances.values():
            one.unhealthy = None
        self.world.work()
        forgotten = self.loop.time() + MEMORY
        wrong: str | None = "no round yet"
        for n in range(PATIENCE):
            self.loop.hand += PAUSES[n % len(PAUSES)]
            await self.round(n)
            self.world.report()
            if self.loop.time() < forgotten:
                continue
            before, wrong = wrong, await self.missing()
            if before is None:
                assert wrong is None, f"it did not stay as wanted: {wrong}"
                return
        raise AssertionError(f"not as wanted: {wrong}")

    async def missing(self) -> str | None:
        """The first thing that is not as wanted; None when all is."""
        found = await self.world.deployment() if await self.world.is_deployed() else None
        live = [i for i in self.rows() if i.is_live]
        ready = sorted(i.id for i in live if i.status is S.READY and i.wanted)
        up = found is not None and found.failed_at is None
        status = "INACTIVE" if found is None else "ACTIVE" if up else "ERROR"
        counts = Counter(i.specification_id for i in live)
        minimum = {s.id: s.min_instances for s in found.specifications if s.min_instances} if found and up else {}
        claims = {
            "status": (await self.world.status(), status),
            "live per specification": (counts, Counter(minimum)),
            "ready": (ready, sorted(i.id for i in live)),
            "running": (sorted(self.running()), ready),
            "routed": (sorted(self.world.routed()), ready),
            "route": (type(self.world.route()), Route if found is not None else Known),
        }
        return next((f"{what}: {is_} instead of {due}" for what, (is_, due) in claims.items() if is_ != due), None)


BOUNDS = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(lambda b: (b[0], max(1, b[0] + b[1])))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Deploy, st.lists(BOUNDS, min_size=1, max_size=2).map(tuple)),
    st.builds(Undeploy, st.booleans()),
    st.builds(lambda b: Resize(*b), BOUNDS),
    st.builds(Harm, st.sampled_from(["exit", "lose", "sicken", "heal"]), st.integers(0, 3)),
    st.builds(Work, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3)),
    st.just(Stray()),
)
VERBS = st.sampled_from(["", "run", "launch", "terminate"])
FAULTS = st.one_of(
    st.builds(
        Fault, VERBS, st.just(1) | st.integers(1, 15), st.sampled_from(["crash before", "crash after", "refused"])
    ),
    st.builds(Fault, VERBS, st.just(1) | st.integers(1, 15), st.just("race"), EVENTS),
)
PAUSE = st.sampled_from([0.0, 1.0, 3.0, 12.0])
STEPS = st.lists(st.builds(Step, st.none() | EVENTS, PAUSE, st.integers(0, 1000), st.none() | FAULTS), max_size=10)
FORGOT_A_LAUNCH = [
    Step(None, 0.0, 0, None),
    Step(None, 0.0, 0, Fault("launch", 1, "crash after")),
    Step(Undeploy(graceful=False), 0.0, 5, None),
]
"""Launched, not recorded as such, and not wanted any more when control is back."""


@pytest.mark.timeout(240)  # a machine with other things to do
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@example(first=(1, 1), steps=FORGOT_A_LAUNCH)
@given(first=BOUNDS, steps=STEPS)
def test_a_crash_at_any_call_costs_a_pass_and_nothing_else(first: tuple[int, int], steps: Sequence[Step]) -> None:
    """Whatever crashes, is refused or races: nothing runs unrecorded or in excess, and all ends up as wanted."""
    loop = HandLoop()

    async def drill() -> None:
        one = Drill(loop)
        await one.world.create(a_version())
        await one.happen(Deploy((first,)))
        for step in steps:
            await one.take(step)
        await one.settle()
        await one.db.close()

    try:
        loop.run_until_complete(drill())
    finally:
        loop.close()

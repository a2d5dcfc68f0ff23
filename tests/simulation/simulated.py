"""An installation under a virtual clock: gateways, accepted invocations, instances, their scaling, a rate limit.

Everything that decides is the real thing: the store's transactions on a real SQLite, leases (``Silence``), the queue
and its dispatch, slots, admission, the rate limiter, demand and policy of the scaler, the plan of the controllers. What
is simulated is what they stand in: time, processes that are killed or frozen at any moment, instances that start, serve
and break, clients that poll and lose their connection. Everything follows from the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import sqlalchemy as sa

from gpufn.controllers import plan
from gpufn.gateway import admission
from gpufn.gateway.dispatch import assign
from gpufn.gateway.limits import Limits, Policy as RatePolicy
from gpufn.gateway.ownership import Silence
from gpufn.gateway.problems import Refused
from gpufn.gateway.queue import Queue
from gpufn.gateway.slots import Slot, Slots
from gpufn.gateway.snapshot import Snapshot
from gpufn.gateway.upstream import Pool
from gpufn.model.access import Principal, Resource
from gpufn.model.deployment import GpuSpecification
from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.model.invocation import NOBODY, AcceptedInvocation, Body, Outcome
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.supervisor import Supervisor
from gpufn.scaling.demand import Watch
from gpufn.scaling.load import LoadBoard
from gpufn.scaling.policy import Policy, decide
from gpufn.settings import GatewaySettings
from gpufn.store import invocations
from gpufn.wire.feed import LoadReport, RouteInstance, VersionLoad
from gpufn.wire.rates import RateLimitDto

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = 5.0
BEAT = 1.0
ATTEMPTS = 3
START = 2.0
"""Seconds that an instance takes to be ready."""
RATE = 20
"""Calls that an account may make in a minute."""
VERSION = VersionId("v")
ACCOUNTS = ("a", "b")
RESTARTS = plan.RestartPolicy(3, Backoff(1.0, 60.0), timedelta(seconds=10))


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(eq=False)
class Work:
    """An invocation in the memory of a gateway."""

    record: AcceptedInvocation
    give_up_at: float = float("inf")
    slot: Slot | None = None
    ends_at: float = 0.0
    gives_way: bool = False

    @property
    def nca_id(self) -> str:
        return self.record.nca_id


@dataclass
class Gateway:
    """A process. ``frozen``: it does nothing and knows nothing of the time that passes (SIGSTOP)."""

    name: str
    incarnation: str
    beats_at: float
    slots: Slots
    silence: Silence = field(default_factory=lambda: Silence(LEASE))
    queue: Queue = field(default_factory=lambda: Queue(1000))
    running: list[Work] = field(default_factory=list)
    frozen: bool = False


@dataclass
class Ledger:
    """What clients know."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Account by invocation id."""
    results: dict[str, list[str]] = field(default_factory=dict)
    """What arrived, by invocation id."""
    doubted: set[str] = field(default_factory=set)
    """Ids whose gateway died while it handed the result out."""
    started: Counter[str] = field(default_factory=Counter)
    """Attempts that were given to an instance."""
    calls: dict[str, list[float]] = field(default_factory=dict)
    """When calls of an account were let through, in one gateway."""


class World:
    """One run. ``act`` does one random thing; ``settle`` ends all faults; ``check`` raises Broken."""

    def __init__(self, seed: int, tx: sa.Connection) -> None:
        self.random = Random(seed)
        self.tx = tx
        self.now = 0.0
        self.ledger = Ledger()
        self.gateways: list[Gateway] = []
        self.instances: list[Instance] = []
        low = self.random.choice([0, 1, 2])
        self.spec = GpuSpecification(
            SpecificationId("s"), "H100", "t", low, low + self.random.choice([0, 1, 3]) or 2,
            max_request_concurrency=self.random.choice([1, 4, 8]),
        )  # fmt: skip
        self.watch = Watch(now=0.0)
        self.board = LoadBoard(started=0.0)
        self.limits = Limits()
        self.rate = RatePolicy(RateLimitDto(rate_limit=f"{RATE}-M", sync_check=True))
        self._names = 0
        for name in ("g0", "g1")[: self.random.choice([1, 2])]:
            self.boot(name)
        self.advance(self.random.choice([0.0, 4.0]))

    # ------------------------------------------------------------------ time

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, second by second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1.0, end)
            for gateway in [g for g in self.gateways if not g.frozen]:
                self._finish_due(gateway)
                if gateway.beats_at <= self.now:
                    gateway.beats_at = self.now + BEAT
                    self.beat(gateway)
                self.dispatch(gateway)
            self.scale()

    # ------------------------------------------------------------------ gateways

    def boot(self, name: str) -> None:
        """A gateway process begins."""
        self._names += 1
        gateway = Gateway(name, f"{name}-{self._names}", self.now, Slots(a_pool))
        invocations.register(self.tx, invocations.Gateway(name, gateway.incarnation, 0))
        self.gateways.append(gateway)
        self._route()

    def beat(self, gateway: Gateway) -> None:
        """One round of ``Ownership``."""
        me = gateway.incarnation
        if not invocations.beat(self.tx, me):
            self._fenced(gateway)
            return
        owners = invocations.owners(self.tx)
        dead = gateway.silence.dead(invocations.all_gateways(self.tx), owners, me=me, now=self.now)
        if not dead and NOBODY not in owners:
            return
        invocations.bury(self.tx, dead)
        for record in invocations.claim(self.tx, me, of=dead, note="its gateway died"):
            if record.attempt > ATTEMPTS:
                self._end(record, "lost")
            else:
                gateway.queue.push(Work(record), always=True)

    def _fenced(self, gateway: Gateway) -> None:
        self._drop(gateway)
        self._names += 1
        gateway.incarnation = f"{gateway.name}-{self._names}"
        invocations.register(self.tx, invocations.Gateway(gateway.name, gateway.incarnation, 0))

    def _drop(self, gateway: Gateway) -> None:
        """It forgets what it had."""
        for work in gateway.running:
            if work.slot is not None:
                work.slot.release()
        gateway.running.clear()
        while gateway.queue.pop() is not None:
            pass

    def kill(self, gateway: Gateway) -> None:
        """``kill -9``; its parent starts another one."""
        self.gateways.remove(gateway)
        if self.random.random() < 0.9:
            self.boot(gateway.name)
        elif not self.gateways:
            self.boot("g9")

    def stop(self, gateway: Gateway) -> None:
        """A graceful stop: what it has is left to the next."""
        invocations.bury(self.tx, [gateway.incarnation])
        invocations.release(self.tx, gateway.incarnation)
        self._drop(gateway)
        self.gateways.remove(gateway)
        self.boot(gateway.name)

    # ------------------------------------------------------------------ invocations

    def accept(self, gateway: Gateway) -> None:
        """A call runs longer than its window, and is answered 202 once it is committed."""
        account = self.random.choice(ACCOUNTS)
        verdict = self.limits.check(self.rate, principal(account), VERSION, self.now)
        if verdict is not None and not verdict.allowed:
            return
        self.ledger.calls.setdefault(account, []).append(self.now)
        slot = gateway.slots.take(self.now)
        if slot is None:
            return
        self._names += 1
        name = f"i{self._names}"
        record = AcceptedInvocation(
            id=name, nca_id=account, function_id="f", version_id=VERSION, form="pexec", head=b"", request=Body(0),
            window=1, accepted_at=self.wall(), deadline=self.wall() + timedelta(hours=1), owner=gateway.incarnation,
            fence=1, attempt=1,
        )  # fmt: skip
        invocations.insert(self.tx, [record])
        self._run(gateway, Work(record), slot)
        if self.random.random() < 0.95:  # else it dies between the commit and the 202
            self.ledger.accepted[name] = account
        else:
            self.kill(gateway)

    def dispatch(self, gateway: Gateway) -> None:
        for item, slot in assign(gateway.queue, gateway.slots, self.now).started:
            if isinstance(item, Work):
                self._run(gateway, item, slot)

    def _run(self, gateway: Gateway, work: Work, slot: Slot) -> None:
        work.slot = slot
        work.ends_at = self.now + self.random.expovariate(1 / 4)
        gateway.running.append(work)
        self.ledger.started[work.record.id] += 1

    def _finish_due(self, gateway: Gateway) -> None:
        for work in [w for w in gateway.running if w.ends_at <= self.now]:
            self._leave(gateway, work)
            self._end(work.record, f"result {work.record.fence}")

    def _end(self, record: AcceptedInvocation, text: str) -> None:
        outcome = Outcome(200, (), Body(len(text), text.encode()))
        invocations.finish(self.tx, record.id, fence=record.fence, outcome=outcome, now=self.wall())

    def _leave(self, gateway: Gateway, work: Work) -> None:
        gateway.running.remove(work)
        if work.slot is not None:
            work.slot.release()

    def instance_breaks(self, gateway: Gateway) -> None:
        """An instance breaks off a call."""
        if gateway.running:
            self._broken_off(gateway, self.random.choice(gateway.running))

    def _broken_off(self, gateway: Gateway, work: Work) -> None:
        """Another attempt, or the end."""
        self._leave(gateway, work)
        record = work.record
        if record.attempt >= ATTEMPTS:
            self._end(record, "lost")
        elif invocations.try_again(self.tx, record, note="broke off"):
            again = replace(record, fence=record.fence + 1, attempt=record.attempt + 1)
            gateway.queue.push(Work(again), always=True)

    def poll(self, gateway: Gateway) -> None:
        """Some account asks for some invocation, and may lose its connection, or the gateway its life."""
        waiting = [name for name in self.ledger.accepted if name not in self.ledger.results]
        if not waiting:
            return
        name = self.random.choice(waiting if self.random.random() < 0.8 else list(self.ledger.accepted))
        self._poll(gateway, name, self.random.choice(ACCOUNTS), faults=True)

    def _poll(self, gateway: Gateway, name: str, account: str, *, faults: bool) -> None:
        record = invocations.get(self.tx, name)
        if record is None:
            raise Broken(f"I1: {name} was accepted and is gone")
        try:
            admission.allow_invocation(Snapshot(lambda facts: None), principal(account), record)  # type: ignore[arg-type, return-value]
        except Refused:
            return
        if account != self.ledger.accepted[name]:
            raise Broken(f"I5: account {account} sees {name} of account {self.ledger.accepted[name]}")
        if record.outcome is None:
            return
        if invocations.begin_delivery(self.tx, name, owner=gateway.incarnation, at=self.wall()):
            self._hand_out(gateway, name, record.outcome, fate=self.random.random() if faults else 1.0)

    def _hand_out(self, gateway: Gateway, name: str, outcome: Outcome, *, fate: float) -> None:
        if fate < 0.15:  # the connection breaks first
            invocations.end_delivery(self.tx, name, owner=gateway.incarnation, at=self.wall(), arrived=False)
            return
        if fate < 0.35:  # the gateway dies, before or after the client had it
            self.ledger.doubted.add(name)
            if fate < 0.25:
                self._arrived(name, outcome)
            self.kill(gateway)
            return
        self._arrived(name, outcome)
        invocations.end_delivery(self.tx, name, owner=gateway.incarnation, at=self.wall(), arrived=True)

    def _arrived(self, name: str, outcome: Outcome) -> None:
        self.ledger.results.setdefault(name, []).append(outcome.body.content.decode())

    # ------------------------------------------------------------------ instances

    def scale(self) -> None:
        """A pass of the autoscaler and of the deployments controller; instances start, drain and end."""
        self._report()
        load = self.board.load(VERSION, now=self.now)
        self.watch.see(load, now=self.now)
        live = [i for i in self.instances if i.is_live and i.wanted]
        demand = self.watch.demand(startup=START, present=bool(live), window=60.0, longest=20.0, now=self.now)
        (wanted,) = decide([self.spec], demand, now=self.now, policy=Policy(idle_to_zero=20.0))
        self.spec = replace(self.spec, desired=wanted.count)
        if not self.spec.min_instances <= wanted.count <= self.spec.max_instances:
            raise Broken(f"I3: {wanted.count} instances desired of {self.spec}")
        busy = {name for g in self.gateways for name in g.slots.busy_by_instance()}
        step = plan.scale(self.spec, self.instances, self.wall(), RESTARTS, busy=busy)
        for name in step.retire:
            if name in busy:
                raise Broken(f"I4: the busy instance {name} is to go")
        for _ in range(step.create):
            self.instances.append(self._instance())
        self.instances = [self._next(i, retire=i.id in step.retire) for i in self.instances]
        if len([i for i in self.instances if i.is_live and i.wanted]) > self.spec.max_instances:
            raise Broken("I3: more instances than the maximum")
        self._route()

    def _instance(self) -> Instance:
        self._names += 1
        return Instance(
            id=InstanceId(f"n{self._names}"), deployment_id=DeploymentId("d"), specification_id=self.spec.id,
            version_id=VERSION, function_id=FunctionId("f"), nca_id=AccountId("a"), gpu="H100", instance_type="t",
            created_at=self.wall(), updated_at=self.wall(), status=InstanceStatus.STARTING,
        )  # fmt: skip

    def _next(self, instance: Instance, *, retire: bool) -> Instance:
        if retire:
            draining = instance.to(InstanceStatus.DRAINING, now=self.wall())
            return replace(draining, wanted=False).to(InstanceStatus.TERMINATED, now=self.wall())
        age = (self.wall() - instance.created_at).total_seconds()
        if instance.status is InstanceStatus.STARTING and age >= START:
            return instance.to(InstanceStatus.READY, now=self.wall())
        return instance

    def instance_dies(self) -> None:
        """A ready instance ends by itself; what it had breaks off."""
        ready = [i for i in self.instances if i.status is InstanceStatus.READY]
        if not ready:
            return
        victim = self.random.choice(ready)
        self.instances = [
            i.to(InstanceStatus.ERRORED, now=self.wall()) if i.id == victim.id else i for i in self.instances
        ]
        for gateway in self.gateways:
            for work in [w for w in gateway.running if w.slot and w.slot.instance.facts.id == victim.id]:
                self._broken_off(gateway, work)
        self._route()

    def _route(self) -> None:
        """Tell gateways the instances that are ready."""
        ready = [self._facts(i) for i in self.instances if i.status is InstanceStatus.READY]
        for gateway in [g for g in self.gateways if not g.frozen]:
            gateway.slots.update(ready)

    def _facts(self, instance: Instance) -> RouteInstance:
        return RouteInstance(
            id=instance.id, host="h", port=1, slots=self.spec.max_request_concurrency, gpu="H100", instance_type="t",
            shared_dir="/",
        )  # fmt: skip

    def _report(self) -> None:
        for gateway in [g for g in self.gateways if not g.frozen]:
            load = VersionLoad(
                queued=len(gateway.queue), in_flight=len(gateway.running), busy=gateway.slots.busy_by_instance()
            )
            versions = {VERSION: load} if load.queued or load.in_flight else {}
            self.board.report(LoadReport(gateway=gateway.name, seq=0, versions=versions), now=self.now)

    # ------------------------------------------------------------------ the run

    def act(self) -> str:
        """One random event; its name."""
        acts: list[tuple[int, Callable[[Gateway], None]]] = [
            (36, self.accept), (24, self.poll), (6, self.instance_breaks), (4, self.kill), (2, self.stop),
            (3, lambda g: setattr(g, "frozen", True)), (4, lambda g: setattr(g, "frozen", False)),
            (3, lambda g: self.instance_dies()), (26, lambda g: self.advance(self.random.choice([0.5, 1.0, 2.0, 7.0]))),
        ]  # fmt: skip
        (_, act) = self.random.choices(acts, weights=[weight for weight, _ in acts])[0]
        gateway = self.random.choice(self.gateways)
        if gateway.frozen and act in (self.accept, self.poll, self.instance_breaks, self.stop):
            return "nothing"
        act(gateway)
        return getattr(act, "__name__", "act")

    def settle(self) -> None:
        """No more faults: everything ends, and every client asks until it has its result."""
        for gateway in self.gateways:
            gateway.frozen = False
        for _ in range(60):
            self.advance(5.0)
            for name, account in self.ledger.accepted.items():
                if name not in self.ledger.results or name in self.ledger.doubted:
                    self._poll(self.gateways[0], name, account, faults=False)
            if all(name in self.ledger.results for name in self.ledger.accepted):
                break

    def check(self) -> None:
        """The invariants of the whole; those of single steps were checked on the way."""
        for name in self.ledger.accepted:
            arrived = self.ledger.results.get(name, [])
            record = invocations.get(self.tx, name)
            if not arrived or record is None or record.finished_at is None:
                raise Broken(f"I1: {name} was accepted and never ended: {record}")
            if len(set(arrived)) > 1 or (len(arrived) > 1 and name not in self.ledger.doubted):
                raise Broken(f"I2: {name} has {arrived}")
            if record.attempt > ATTEMPTS + 1:
                raise Broken(f"I6: {name} is at attempt {record.attempt}")
        for account, times in self.ledger.calls.items():
            if len(times) > RATE * (int(self.now // 60.0) + 1):
                raise Broken(f"I6: account {account} was let through {len(times)} times")
        live = [i for i in self.instances if i.is_live and i.wanted]
        if not self.spec.min_instances <= len(live) <= self.spec.max_instances:
            raise Broken(f"I3: {len(live)} instances at the end, of {self.spec}")


def a_pool(facts: RouteInstance) -> Pool:
    """Connections to nowhere: nobody makes one."""
    return Pool(GatewaySettings(), Supervisor(), host=facts.host, port=facts.port)


def principal(account: str) -> Principal:
    """A caller with every right in its account."""
    return Principal(
        nca_id=AccountId(account), subject="s", scopes=frozenset({"invoke_function"}),
        resources=(Resource("account-functions", "*"),),
    )  # fmt: skip


def run(seed: int, connection: sa.Connection, *, acts: int = 40) -> World:
    """One whole run, in a transaction of its own that is undone. Raises Broken."""
    with connection.begin() as tx:
        world = World(seed, connection)
        try:
            for _ in range(acts):
                world.act()
            world.settle()
            world.check()
        finally:
            tx.rollback()
    return world

"""How many requests the instances of one version may serve at once, and who is serving.

An instance that leaves the route gets nothing new; what it is serving keeps its slot until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gpufn.gateway.outputs import Outputs, Progress
from gpufn.gateway.upstream import Pool
from gpufn.wire.feed import RouteInstance

FAILED_SECONDS = 2.0
"""How long an instance is avoided after a connection to it failed."""


class Instance:
    """One instance: its limit, how much of it is taken, and the way to it."""

    __slots__ = ("busy", "facts", "failed_until", "gone", "limit", "outputs", "pool", "shared_dir")

    def __init__(self, facts: RouteInstance, pool: Pool) -> None:
        self.learn(facts)
        self.busy = 0
        self.pool = pool
        self.outputs: Outputs | None = None
        """Its directory for what belongs to requests, once one of them needed it."""
        self.gone = False
        """Whether it takes nothing new any more."""
        self.failed_until = 0.0
        """The loop time until which it is avoided, because a connection to it failed."""

    def close(self) -> None:
        """It serves nothing any more."""
        if self.outputs is not None:
            self.outputs.close()
            self.outputs = None

    def learn(self, facts: RouteInstance) -> None:
        """Take what control says of it now."""
        self.facts = facts
        self.limit = facts.slots
        self.shared_dir = facts.shared_dir.encode()


class Slot:
    """The right to have one request served by ``instance``. ``release`` gives it back, once."""

    __slots__ = ("_held", "_owner", "_then", "_unused", "instance", "output")

    def __init__(self, owner: Slots, instance: Instance) -> None:
        self.instance = instance
        self._owner = owner
        self._held = True
        self._then: Callable[[], None] | None = None
        self.output = ""
        """The name of the request's output directory, if it has one."""
        self._unused = False

    def when_released(self, then: Callable[[], None]) -> None:
        """Have ``then`` called once it is given back."""
        self._then = then

    def open_output(self, outputs: Outputs, name: str) -> None:
        """Have an output directory for the request ``name``, if that is possible."""
        if outputs.begin(name):
            self.output = name

    def wrote(self) -> bool:
        """Whether the instance, which has answered, has left files of a result."""
        outputs, name = self.instance.outputs, self.output
        if not name or outputs is None:
            return False
        self._unused = not outputs.changed(name)
        return not self._unused and outputs.has_files(name)

    def take_output(self) -> Path | None:
        """What the instance has left, moved out of its reach. Raises OSError."""
        outputs, name = self.instance.outputs, self.output
        if outputs is None or not self.wrote():
            return None
        self.output = ""
        return outputs.take(name)

    def progress(self, after: int) -> Progress | None:
        """What the instance says of how far it is, if it has said so after the one known by ``after``."""
        outputs, name = self.instance.outputs, self.output
        return outputs.progress(name, after) if name and outputs is not None else None

    def failed(self, now: float) -> None:
        """The instance could not be reached, or broke off."""
        self.instance.failed_until = now + FAILED_SECONDS

    def release(self) -> None:
        """Give it back. A second call does nothing."""
        if not self._held:
            return
        self._held = False
        owner, instance = self._owner, self.instance
        if self.output and instance.outputs is not None:
            instance.outputs.end(self.output, unused=self._unused)
        instance.busy -= 1
        owner.busy -= 1
        owner.served += 1
        if instance.gone and not instance.busy:
            owner.departed(instance)
        if self._then is not None:
            self._then()


class Slots:
    """The slots of one version's instances. ``attach`` makes the connection pool for a new instance."""

    def __init__(self, attach: Callable[[RouteInstance], Pool]) -> None:
        self._attach = attach
        self._instances: dict[str, Instance] = {}
        self._leaving: dict[str, Instance] = {}
        self.busy = 0
        """Slots taken, those on leaving instances included."""
        self.served = 0
        """Slots given back, ever."""

    @property
    def total(self) -> int:
        """Slots of all instances that take new work."""
        return sum(i.limit for i in self._instances.values())

    @property
    def free(self) -> int:
        return sum(max(i.limit - i.busy, 0) for i in self._instances.values())

    @property
    def ready(self) -> int:
        """How many instances take new work."""
        return len(self._instances)

    def take(self, now: float) -> Slot | None:
        """A slot of the instance with the least to do, or None when all are taken. One that failed a moment ago gets
        nothing while there are others, even if those are busy.
        """
        best: Instance | None = None
        trusted = False
        for instance in self._instances.values():
            if instance.failed_until > now:
                continue
            trusted = True
            if instance.busy < instance.limit and (best is None or instance.busy < best.busy):
                best = instance
        if not trusted:
            free = (i for i in self._instances.values() if i.busy < i.limit)
            best = min(free, key=lambda i: i.busy, default=None)
        if best is None:
            return None
        best.busy += 1
        self.busy += 1
        return Slot(self, best)

    def others(self, instance: Instance, now: float) -> bool:
        """Whether there is another instance than ``instance``, that did not fail a moment ago."""
        return any(i is not instance and i.failed_until <= now for i in self._instances.values())

    def take_at(self, instance_id: str, now: float) -> Slot | None:
        """A slot of that instance, or None when it has none free, is gone, or failed a moment ago."""
        instance = self._instances.get(instance_id)
        if instance is None or instance.busy >= instance.limit or instance.failed_until > now:
            return None
        instance.busy += 1
        self.busy += 1
        return Slot(self, instance)

    def departed(self, instance: Instance) -> None:
        """An instance that takes nothing new has nothing left to do."""
        if self._leaving.get(instance.facts.id) is instance:
            del self._leaving[instance.facts.id]
            instance.close()

    def update(self, wanted: Sequence[RouteInstance]) -> None:
        """Make the instances those of ``wanted``."""
        names = {facts.id for facts in wanted}
        for gone in [i for i in self._instances.values() if i.facts.id not in names]:
            self._leave(gone)
        for facts in wanted:
            self._arrive(facts)

    def busy_by_instance(self) -> dict[str, int]:
        """Requests being served, by instance; those without any are left out."""
        every = [*self._leaving.values(), *self._instances.values()]
        return {i.facts.id: i.busy for i in every if i.busy}

    def _leave(self, instance: Instance) -> None:
        del self._instances[instance.facts.id]
        instance.gone = True
        instance.pool.close()
        if instance.busy:
            self._leaving[instance.facts.id] = instance
        else:
            instance.close()

    def _arrive(self, facts: RouteInstance) -> None:
        known = self._instances.get(facts.id)
        if known is not None and (known.facts.host, known.facts.port) == (facts.host, facts.port):
            known.learn(facts)
            return
        returning = self._leaving.pop(facts.id, None)
        if known is not None:
            self._leave(known)
            returning = self._leaving.pop(facts.id, None)
        fresh = Instance(facts, self._attach(facts))
        if returning is not None:  # what it still serves counts against its limit: concurrency stays exact
            returning.learn(facts)
            returning.pool = fresh.pool
            returning.gone = False
            fresh = returning
        self._instances[facts.id] = fresh

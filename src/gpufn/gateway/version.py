"""One version as the gateway sees it: what control said of it, its queue, and the slots of its instances."""

from __future__ import annotations

from typing import Protocol

from gpufn.gateway.dispatch import assign
from gpufn.gateway.limits import Policy
from gpufn.gateway.queue import Queue, Waiting
from gpufn.gateway.slots import Slot, Slots
from gpufn.gateway.upstream import Pool
from gpufn.model.status import FunctionStatus
from gpufn.runtime.clock import loop_now
from gpufn.wire.feed import Known, Route, RouteInstance, VersionLoad

MAX_RESPONSE_SIZE = 5_242_880
"""``NVCF-MAX-RESPONSE-SIZE-BYTES`` (invocation-plane page, section 10.2)."""


class Call(Waiting, Protocol):
    """An invocation, as its version sees it."""

    def start(self, slot: Slot, now: float) -> None:
        """A slot is yours."""
        ...

    def expire(self, now: float) -> None:
        """You waited too long."""
        ...

    def withdrawn(self) -> None:
        """The version is not deployed any more; you left the queue."""
        ...

    def crowded_out(self) -> None:
        """The queue was full and your account had the most in it; you left the queue."""
        ...


class Version:
    """A version of a function. ``pexec_heads`` and ``direct_heads`` are built once per instance and route."""

    def __init__(self, facts: Route | Known, *, depth: int, pools: PoolFactory) -> None:
        self.id = facts.version_id
        self.function_id = facts.function_id
        self.nca_id = facts.nca_id
        self.facts: Route | Known = facts
        self.status = facts.status
        self.parties: frozenset[str] = frozenset(facts.parties)
        """Other accounts that may invoke it."""
        self.draining = False
        self.invocable = False
        self.generation = 0
        """Of the feed: what an older connection said and a newer one did not repeat is dropped."""
        self.limit: Policy | None = None
        self.called_at = 0.0
        """When the last call came, in loop time."""
        self.queue = Queue(depth)
        self.slots = Slots(self._attach)
        self.heads: dict[str, tuple[bytes, bytes]] = {}
        """By instance id: how a pexec request begins, and how a direct one goes on after its target."""
        self._pools = pools

    @property
    def route(self) -> Route | None:
        """What control said, if it is deployed."""
        return self.facts if isinstance(self.facts, Route) else None

    def pressure(self) -> float:
        """How much there is to do per slot: the choice between versions (lower is better)."""
        return (self.slots.busy + len(self.queue) + 1) / max(self.slots.total, 1) + (self.slots.total == 0) * 1e9

    def apply(self, facts: Route | Known) -> None:
        """Take what control says now."""
        self.facts, self.status = facts, facts.status
        self.parties = frozenset(facts.parties)
        self.draining = isinstance(facts, Route) and facts.draining
        limit = facts.rate_limit if isinstance(facts, Route) else None
        self.limit = Policy(limit) if limit is not None else None
        self.invocable = isinstance(facts, Route) and facts.status.is_invocable and not facts.draining
        if not isinstance(facts, Route) or facts.status is FunctionStatus.ERROR:
            self.withdraw()
            return
        self.slots.update(facts.instances)
        self.heads = {i.id: _heads(facts, i) for i in facts.instances}
        self.dispatch()

    def withdraw(self) -> None:
        """It is not deployed any more: what runs may end, what waits is told."""
        self.invocable = False
        self.slots.update(())
        while (item := self.queue.pop()) is not None:
            _call(item).withdrawn()

    @property
    def serves(self) -> bool:
        """Whether what was accepted can be served, now or once an instance is ready."""
        return isinstance(self.facts, Route) and self.status is not FunctionStatus.ERROR

    def submit(self, call: Call, now: float, *, accepted: bool = False) -> bool:
        """Start ``call`` on a free slot, or queue it; False when the queue is full.

        What was ``accepted`` before is never refused.
        """
        self.called_at = now
        if not self.queue:
            slot = self.slots.take(now)
            if slot is not None:
                call.start(slot, now)
                return True
        out = self.queue.push(call, always=accepted)
        if out is not None and out is not call:
            _call(out).crowded_out()
        return out is not call

    def release(self, slot: Slot) -> None:
        """Give a slot back, to whoever waits."""
        slot.release()
        if self.queue:
            self.dispatch()

    def dispatch(self) -> None:
        """Start whoever can start."""
        if not self.queue:
            return
        now = loop_now()
        assignment = assign(self.queue, self.slots, now)
        for item, slot in assignment.started:
            _call(item).start(slot, now)
        for item in assignment.expired:
            _call(item).expire(now)

    def load(self) -> VersionLoad:
        """What is to be told to control."""
        slots = self.slots
        return VersionLoad(
            queued=len(self.queue), in_flight=slots.busy, busy=slots.busy_by_instance(), served=slots.served
        )

    def _attach(self, facts: RouteInstance) -> Pool:
        return self._pools(facts.host, facts.port)


class PoolFactory(Protocol):
    """Makes the connection pool for an instance."""

    def __call__(self, host: str, port: int) -> Pool: ...


def _call(item: Waiting) -> Call:
    """Only calls are ever queued; the queue itself needs to know less of them."""
    return item  # type: ignore[return-value]


def _heads(route: Route, instance: RouteInstance) -> tuple[bytes, bytes]:
    """The start of a request to ``instance``: for pexec with its request line, for direct mode without."""
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    region = instance.region or route.region
    fields = {
        "Host": f"{host}:{instance.port}",
        "NVCF-FUNCTION-ID": route.function_id,
        "NVCF-FUNCTION-VERSION-ID": route.version_id,
        "NVCF-FUNCTION-NAME": route.function_name,
        "NVCF-MAX-RESPONSE-SIZE-BYTES": str(MAX_RESPONSE_SIZE),
        "NVCF-BACKEND": instance.backend or route.backend,
        "NVCF-INSTANCETYPE": instance.instance_type,
        "NVCF-REGION": region,
        "NVCF-ENV": "",
        "NVCF-NSPECTID": "",
        "NVCF-INVOCATION-REGION": route.region,
    }
    common = " HTTP/1.1\r\n" + "".join(f"{name}: {printable(value)}\r\n" for name, value in fields.items())
    path = printable(route.inference_path).replace(" ", "%20")
    return f"POST {path}{common}".encode(), common.encode()


def printable(value: str) -> str:
    """``value`` without control characters: it becomes part of a header line."""
    return "".join(c for c in value if c.isprintable())

"""Queue, slots and their meeting: never too many, never out of order, nobody forgotten."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings, strategies as st

from gpufn.gateway.deadlines import SLICE, Deadlines, Timed
from gpufn.gateway.dispatch import assign
from gpufn.gateway.queue import Queue
from gpufn.gateway.slots import Slot, Slots
from gpufn.gateway.upstream import Pool
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings
from gpufn.wire.feed import RouteInstance


class Waiter:
    """Someone in a queue."""

    def __init__(self, number: int, give_up_at: float, account: str = "a", *, gives_way: bool = True) -> None:
        self.number, self.give_up_at, self.nca_id, self.gives_way = number, give_up_at, account, gives_way

    def __repr__(self) -> str:
        return f"{self.nca_id}{self.number}"


def an_instance(name: int, slots: int) -> RouteInstance:
    return RouteInstance(
        id=str(name), host="h", port=name + 1, slots=slots, gpu="g", instance_type="t", shared_dir="/var/inf"
    )


def some_slots() -> Slots:
    tasks = Supervisor()
    return Slots(lambda facts: Pool(GatewaySettings(), tasks, host=facts.host, port=facts.port))


STEPS = st.one_of(
    st.tuples(st.just("arrive"), st.integers(1, 40)),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.just("route"), st.lists(st.integers(1, 3), max_size=3)),
    st.tuples(st.just("wait"), st.integers(1, 10)),
)


class History:
    """A queue and slots, and what should be true of them."""

    def __init__(self) -> None:
        self.queue, self.slots, self.now = Queue(1000), some_slots(), 0.0
        self.running: list[Slot] = []
        self.waiting: list[Waiter] = []
        self._arrived = 0

    def arrive(self, patience: int) -> None:
        waiter = Waiter(self._arrived, self.now + patience)
        self._arrived += 1
        assert self.queue.push(waiter) is None
        self.waiting.append(waiter)

    def release(self, which: int) -> None:
        if self.running:
            slot = self.running.pop(which % len(self.running))
            slot.release()
            slot.release()

    def leave(self, which: int) -> None:
        if self.waiting:
            assert self.queue.remove(self.waiting.pop(which % len(self.waiting)))

    def route(self, limits: list[int]) -> None:
        self.slots.update([an_instance(number, limit) for number, limit in enumerate(limits)])

    def wait(self, seconds: int) -> None:
        self.now += seconds

    def assign(self) -> None:
        """Assign, and check everything."""
        result = assign(self.queue, self.slots, self.now)
        started = [waiter for waiter, _ in result.started]
        self.running += [slot for _, slot in result.started]
        alive = [waiter for waiter in self.waiting if waiter.give_up_at > self.now]
        assert started == alive[: len(started)]
        assert all(waiter.give_up_at <= self.now for waiter in result.expired)
        self.waiting = [w for w in self.waiting if w not in started and w not in result.expired]
        assert len(self.queue) == len(self.waiting)
        assert self.slots.free == 0 or not self.waiting
        assert self.slots.busy == len(self.running) == sum(self.slots.busy_by_instance().values())
        assert all(slot.instance.busy <= slot.instance.limit for _, slot in result.started)


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=200, deadline=None)
def test_assignment_is_exact_and_in_order(steps: list[tuple[str, int | list[int]]]) -> None:
    """After any history: no instance above its slots, no free slot while someone waits, starts in order of arrival."""
    history = History()
    for verb, value in steps:
        getattr(history, verb)(value)
        history.assign()
    for slot in history.running:
        slot.release()
    assert history.slots.busy == 0
    assert history.slots.busy_by_instance() == {}


def test_a_full_queue_takes_no_more() -> None:
    """The queue is bounded, and positions count from one."""
    queue = Queue(2)
    first, second, third = (Waiter(n, 1.0) for n in range(3))
    assert (queue.push(first), queue.push(second), queue.push(third)) == (None, None, third)
    assert (queue.position(first), queue.position(second), queue.position(third)) == (1, 2, 0)
    assert not queue.remove(third)


def a_queue(*accounts: str, depth: int = 100) -> Queue:
    """Waiters of these accounts, in this order; numbers count from 0 per account."""
    queue, counts = Queue(depth), Counter[str]()
    for account in accounts:
        assert queue.push(Waiter(counts[account], 1.0, account)) is None
        counts[account] += 1
    return queue


def emptied(queue: Queue) -> str:
    """Everything in the order it is served."""
    return " ".join(repr(queue.pop()) for _ in range(len(queue)))


def test_accounts_take_turns() -> None:
    """One that has many waiting does not keep another one waiting for all of them."""
    assert emptied(a_queue(*"aaaabb")) == "a0 b0 a1 b1 a2 a3"
    queue = a_queue(*"aaa")
    assert repr(queue.pop()) == "a0"
    queue.push(Waiter(0, 1.0, "b"))
    queue.push(Waiter(0, 1.0, "c"))
    assert emptied(queue) == "a1 b0 c0 a2"


@given(st.text("abc", max_size=30), st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_positions_come_true_and_turns_are_fair(accounts: str, first: int) -> None:
    """A position says when one is served if nobody comes; one who waits is passed at most once by each other account
    between two of its own; within an account the order is kept.
    """
    queue = a_queue(*accounts)
    for _ in range(min(first, len(queue))):
        queue.pop()
    told = [(queue.position(item), item) for line in queue._lines.values() for item in line]
    served = [queue.pop() for _ in range(len(queue))]
    assert sorted(position for position, _ in told) == list(range(1, len(served) + 1))
    assert all(served[position - 1] is item for position, item in told)
    for account in "abc":
        own = [n for n, item in enumerate(served) if item is not None and item.nca_id == account]
        numbers = [served[n].number for n in own]  # type: ignore[union-attr]
        assert numbers == sorted(numbers)
        for before, after in pairwise([-1, *own]):
            between = Counter(item.nca_id for item in served[before + 1 : after] if item is not None)
            assert all(count <= 1 for count in between.values())
    assert len(queue) == 0
    assert queue.peek() is None


def test_a_full_queue_is_shared() -> None:
    """An account that fills it gives way, last come first, until the others have as much; nobody else does."""
    queue = a_queue(*"aaaa", depth=4)
    again = Waiter(9, 1.0)
    assert queue.push(again) is again
    assert [repr(queue.push(Waiter(n, 1.0, "b"))) for n in range(3)] == ["a3", "a2", "b2"]
    assert emptied(queue) == "a0 b0 a1 b1"
    firm = Queue(2)
    for n in range(2):
        firm.push(Waiter(n, 1.0, gives_way=False))
    late = Waiter(0, 1.0, "b")
    assert firm.push(late) is late
    assert firm.push(late, always=True) is None
    assert len(firm) == 3


def test_one_that_was_served_in_vain_is_next() -> None:
    """It goes before everybody, whoever's turn it is."""
    queue = a_queue(*"aabb")
    failed = queue.pop()
    assert failed is not None
    queue.put_first(failed)
    assert queue.position(failed) == 1
    assert emptied(queue) == "a0 b0 a1 b1"


def test_the_least_busy_instance_is_taken() -> None:
    """Work spreads evenly over the instances."""
    slots = some_slots()
    slots.update([an_instance(n, 5) for n in range(3)])
    for _ in range(6):
        assert slots.take(0.0) is not None
    assert slots.busy_by_instance() == {"0": 2, "1": 2, "2": 2}
    assert (slots.total, slots.ready, slots.free) == (15, 3, 9)


class Bell:
    """Rings when due."""

    slice: dict[Timed, None] | None = None

    def __init__(self) -> None:
        self.rung: list[float] = []

    def expire(self, now: float) -> None:
        self.rung.append(now)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_deadlines_are_never_early_and_hardly_late(dues: list[float]) -> None:
    """Everything rings once, not before it is due, and at most two slices after."""
    wheel, bells = Deadlines(), [Bell() for _ in dues]
    for bell, due in zip(bells, dues, strict=True):
        wheel.schedule(bell, due + 50)
        wheel.schedule(bell, due)
    for step in range(int(101 / SLICE)):
        wheel.advance(step * SLICE)
    for bell, due in zip(bells, dues, strict=True):
        assert len(bell.rung) == 1
        assert due - 1e-9 <= bell.rung[0] <= due + 2 * SLICE


def test_a_cancelled_deadline_is_silent() -> None:
    """What was cancelled does not ring."""
    wheel, bell = Deadlines(), Bell()
    wheel.schedule(bell, 1.0)
    wheel.cancel(bell)
    wheel.advance(2.0)
    assert bell.rung == []

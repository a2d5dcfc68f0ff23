"""Events in the database: order, filters, forgetting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gpufn.model.event import Event, EventKind
from gpufn.model.ids import AccountId, DeploymentId, FunctionId, InstanceId, VersionId
from gpufn.store import events
from gpufn.store.database import Database
from gpufn.store.events import Wanted

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def an_event(second: int = 0, *, account: str = "a", version: str = "v", instance: str | None = None) -> Event:
    return Event(
        BEGIN + timedelta(seconds=second),
        EventKind.INSTANCE_READY,
        f"at {second}",
        AccountId(account),
        FunctionId("f"),
        VersionId(version),
        DeploymentId("d"),
        InstanceId(instance) if instance else None,
    )


async def messages(db: Database, wanted: Wanted, limit: int = 100) -> list[str]:
    return [e.message for e in await db.run(lambda tx: events.latest(tx, wanted, limit=limit))]


async def test_the_last_events_come_oldest_first(db: Database) -> None:
    """A limit keeps the newest; with an id to go on from, it keeps the first that follow, so nothing is skipped."""
    await db.run(lambda tx: events.insert(tx, [an_event(n) for n in range(5)]))

    assert await messages(db, Wanted("a"), 2) == ["at 3", "at 4"]
    assert await messages(db, Wanted("a", after=1), 2) == ["at 1", "at 2"]


async def test_every_filter_excludes(db: Database) -> None:
    """Account, version, instance and time each leave out what does not match."""
    told = [an_event(0), an_event(1, account="b"), an_event(2, version="w"), an_event(3, instance="i")]
    await db.run(lambda tx: events.insert(tx, told))

    assert await messages(db, Wanted("b")) == ["at 1"]
    assert await messages(db, Wanted("a", version_id="w")) == ["at 2"]
    assert await messages(db, Wanted("a", instance_id="i")) == ["at 3"]
    assert await messages(db, Wanted("a", since=BEGIN + timedelta(seconds=2))) == ["at 3"]


async def test_what_is_old_or_too_much_is_forgotten(db: Database) -> None:
    """Age and number bound the table, a batch at a time."""
    await db.run(lambda tx: events.insert(tx, [an_event(n) for n in range(10)]))
    old = BEGIN + timedelta(seconds=3)

    assert await db.run(lambda tx: events.forget(tx, before=old, keep=100, batch=2)) == 2
    assert await db.run(lambda tx: events.forget(tx, before=old, keep=100, batch=2)) == 1
    assert await messages(db, Wanted("a")) == [f"at {n}" for n in range(3, 10)]
    assert await db.run(lambda tx: events.forget(tx, before=BEGIN, keep=2, batch=100)) == 5
    assert await messages(db, Wanted("a")) == ["at 8", "at 9"]

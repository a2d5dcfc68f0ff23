"""Accepted invocations: who owns them, how they ended, whether their result was fetched.

Ownership is a lease with a fence. The owner is an incarnation of a gateway, alive as long as its ``beat`` moves; what
a dead one owned is claimed by another, with a higher fence. Every write of an owner names the fence that it holds, so
one that was taken for dead and comes back changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.errors import Conflict
from gpufn.model.invocation import ARCHIVE, NOBODY, AcceptedInvocation, Body, Outcome
from gpufn.store.invocation_tables import gateways, invocations as table

CLAIM_MAX = 200
"""Invocations claimed in one transaction."""
LINE_END = b"\r\n"

# What is run for every invocation, or every second, is built once: building costs more than running.
_ID = table.c.id == sa.bindparam("_id")
_GET = table.select().where(_ID)
_UPDATE_HELD = table.update().where(_ID, table.c.fence == sa.bindparam("_fence"), table.c.finished_at.is_(None))
_THIS_DELIVERY = (table.c.owner == sa.bindparam("_owner")) & (table.c.delivered_at == sa.bindparam("_at"))
_BEGIN_DELIVERY = table.update().where(
    _ID, table.c.finished_at.is_not(None), table.c.delivered_at.is_(None) | _THIS_DELIVERY
)
_END_DELIVERY = table.update().where(_ID, _THIS_DELIVERY)
_OWNERS = sa.select(table.c.owner).where(table.c.owner != "").distinct()
_GATEWAYS = gateways.select()
_BEAT = gateways.update().where(gateways.c.incarnation == sa.bindparam("_incarnation")).values(beat=gateways.c.beat + 1)


@dataclass(frozen=True)
class Gateway:
    """A gateway as the others see it."""

    name: str
    incarnation: str
    beat: int


def insert(tx: sa.Connection, accepted: Sequence[AcceptedInvocation]) -> None:
    """Record invocations that are about to be accepted. Raises Conflict when one of the ids is taken."""
    try:
        tx.execute(table.insert(), [_row(a) for a in accepted])
    except sa.exc.IntegrityError as error:
        raise Conflict("a request of that id exists already; choose a fresh UUID") from error


def get(tx: sa.Connection, invocation_id: str) -> AcceptedInvocation | None:
    """The invocation of that id, finished or not."""
    row = tx.execute(_GET, {"_id": invocation_id}).first()
    return None if row is None else _load(row)


def finish(tx: sa.Connection, invocation_id: str, *, fence: int, outcome: Outcome, now: datetime) -> bool:
    """Record how it ended, once; False when it is not ours any more, and nothing was changed."""
    values = _outcome(outcome) | {"finished_at": now, "owner": ""}
    return tx.execute(_UPDATE_HELD, values | {"_id": invocation_id, "_fence": fence}).rowcount == 1


def try_again(tx: sa.Connection, held: AcceptedInvocation, *, note: str) -> bool:
    """The attempt failed for ``note``; the owner begins the next, with the next fence. False when it is not ours.

    Nobody else raises the fence and leaves the owner, so doing this twice is the same as once.
    """
    done = tx.execute(
        table.update()
        .where(table.c.id == held.id, table.c.owner == held.owner, table.c.finished_at.is_(None))
        .where(table.c.fence.in_([held.fence, held.fence + 1]))
        .values(fence=held.fence + 1, attempt=held.attempt + 1, note=note)
    )
    return done.rowcount == 1


def release(tx: sa.Connection, owner: str) -> int:
    """The owner stops: whoever claims what it has goes on, and the attempt does not count. How many there were."""
    done = tx.execute(
        table.update()
        .where(table.c.owner == owner, table.c.finished_at.is_(None))
        .values(owner=NOBODY, fence=table.c.fence + 1, attempt=table.c.attempt - 1)
    )
    return done.rowcount


def claim(tx: sa.Connection, owner: str, *, of: Collection[str], note: str) -> list[AcceptedInvocation]:
    """Take over what those owners have, NOBODY's too: at most CLAIM_MAX, oldest first, each for its next attempt.

    Results that they were handing out may not have arrived: the next poll gets them.
    """
    theirs = table.c.owner.in_(of) & table.c.finished_at.is_not(None)
    tx.execute(table.update().where(theirs).values(_NOT_DELIVERED))
    query = (
        table.select()
        .where(table.c.owner.in_([*of, NOBODY]), table.c.finished_at.is_(None))
        .order_by(table.c.accepted_at)
        .limit(CLAIM_MAX)
    )
    claimed = []
    for found in map(_load, tx.execute(query).all()):
        after = replace(
            found,
            owner=owner,
            fence=found.fence + 1,
            attempt=found.attempt + 1,
            note=found.note if found.owner == NOBODY else note,
        )
        done = tx.execute(
            table.update()
            .where(table.c.id == found.id, table.c.fence == found.fence, table.c.finished_at.is_(None))
            .values(owner=owner, fence=after.fence, attempt=after.attempt, note=after.note)
        )
        if done.rowcount == 1:
            claimed.append(after)
    return claimed


def held_by(tx: sa.Connection, owner: str) -> list[AcceptedInvocation]:
    """What that owner has not finished: at most CLAIM_MAX, oldest first."""
    query = table.select().where(table.c.owner == owner, table.c.finished_at.is_(None))
    return [_load(row) for row in tx.execute(query.order_by(table.c.accepted_at).limit(CLAIM_MAX))]


def begin_delivery(tx: sa.Connection, invocation_id: str, *, owner: str, at: datetime) -> bool:
    """``owner`` hands the result to a poll; False when that was done before, or there is no result.

    ``owner`` and ``at`` name the delivery: beginning the same one twice is the same as once.
    """
    mark = {"_id": invocation_id, "_owner": owner, "_at": at, "delivered_at": at, "owner": owner}
    return tx.execute(_BEGIN_DELIVERY, mark).rowcount == 1


def end_delivery(tx: sa.Connection, invocation_id: str, *, owner: str, at: datetime, arrived: bool) -> None:
    """The client has the result; or its connection broke before that, and the next poll gets it."""
    values = {"owner": ""} if arrived else _NOT_DELIVERED
    tx.execute(_END_DELIVERY, values | {"_id": invocation_id, "_owner": owner, "_at": at})


def cancel(tx: sa.Connection, invocation_id: str, *, owner: str) -> None:
    """Forget an invocation that nobody was told of; one of somebody else, or that has ended, stays."""
    mine = (table.c.id == invocation_id) & (table.c.owner == owner) & table.c.finished_at.is_(None)
    tx.execute(table.delete().where(mine))


def delete(tx: sa.Connection, invocation_ids: Collection[str]) -> None:
    """Forget invocations."""
    tx.execute(table.delete().where(table.c.id.in_(invocation_ids)))


def old(
    tx: sa.Connection, *, finished: datetime, delivered: datetime, linked: datetime, limit: int
) -> list[tuple[str, list[str]]]:
    """Those that finished, or whose delivery began and is over, before those times: (id, keys of their objects).

    ``linked`` is the time for those of which a URL was handed out: it is good for longer than a delivery takes.
    """
    settled = (table.c.delivered_at < delivered) & (table.c.owner == "")
    archived = sa.func.coalesce(table.c.result_key, "").like(f"%{ARCHIVE}")
    in_use = archived & table.c.delivered_at.is_not(None) & (table.c.delivered_at >= linked)
    query = (
        sa.select(table.c.id, table.c.request_key, table.c.result_key)
        .where(sa.or_(table.c.finished_at < finished, settled), sa.not_(in_use))
        .limit(limit)
    )
    return [(row.id, [k for k in (row.request_key, row.result_key) if k]) for row in tx.execute(query)]


def known(tx: sa.Connection, invocation_ids: Collection[str]) -> set[str]:
    """Which of those ids are recorded."""
    return set(tx.execute(sa.select(table.c.id).where(table.c.id.in_(invocation_ids))).scalars())


# ---------------------------------------------------------------------- gateways


def register(tx: sa.Connection, gateway: Gateway) -> None:
    """A gateway begins, in place of an earlier one of that name."""
    tx.execute(gateways.delete().where(gateways.c.name == gateway.name))
    tx.execute(gateways.insert().values(name=gateway.name, incarnation=gateway.incarnation, beat=gateway.beat))


def beat(tx: sa.Connection, incarnation: str) -> bool:
    """Show that it lives; False when it was taken for dead, or replaced."""
    return tx.execute(_BEAT, {"_incarnation": incarnation}).rowcount == 1


def all_gateways(tx: sa.Connection) -> list[Gateway]:
    """Every gateway that is not known to be dead."""
    return [Gateway(r.name, r.incarnation, r.beat) for r in tx.execute(_GATEWAYS)]


def bury(tx: sa.Connection, incarnations: Collection[str]) -> None:
    """Those are dead: from now on their beats are refused."""
    tx.execute(gateways.delete().where(gateways.c.incarnation.in_(incarnations)))


def owners(tx: sa.Connection) -> set[str]:
    """Everyone who still has something, NOBODY included."""
    return set(tx.execute(_OWNERS).scalars())


def _row(a: AcceptedInvocation) -> dict[str, Any]:
    plain = {name: getattr(a, name) for name in _PLAIN}
    request = {"request": a.request.content, "request_key": a.request.key, "request_size": a.request.size}
    return plain | request | (_outcome(a.outcome) if a.outcome is not None else _NO_OUTCOME)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "lines": LINE_END.join(outcome.lines),
        "result": outcome.body.content,
        "result_key": outcome.body.key,
        "result_size": outcome.body.size,
    }


def _load(row: sa.Row[Any]) -> AcceptedInvocation:
    outcome = None
    if row.status is not None:
        lines = tuple(bytes(row.lines).split(LINE_END)) if row.lines else ()
        outcome = Outcome(row.status, lines, Body(row.result_size, bytes(row.result), row.result_key))
    return AcceptedInvocation(
        **{name: getattr(row, name) for name in _PLAIN if name != "head"},
        head=bytes(row.head),
        request=Body(row.request_size, bytes(row.request), row.request_key),
        outcome=outcome,
    )


_PLAIN = (
    "id", "nca_id", "function_id", "version_id", "form", "head", "window", "accepted_at", "deadline", "owner", "fence",
    "attempt", "note", "finished_at", "delivered_at",
)  # fmt: skip
_NO_OUTCOME: dict[str, Any] = {"status": None, "lines": b"", "result": b"", "result_key": None, "result_size": 0}
_NOT_DELIVERED: dict[str, Any] = {"delivered_at": None, "owner": ""}

"""How many requests can be accepted durably: 202 only after the commit, on the embedded database.

    python bench/acceptance.py [--seconds 5] [--waiting 64] [--body 512]

So many callers each have one request accepted after the other, through the gateway's journal, as many as fit in the
given time; a second run has each of them also finished, delivered and settled, which is all that is ever written of an
invocation. Prints accepted per second, p50 and p99 of one acceptance, and, for comparison from the same run, how many
single commits of one such row the disk allows.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import uvloop

from gpufn.gateway.journal import Journal
from gpufn.model.ids import new_id
from gpufn.model.invocation import AcceptedInvocation, Body, Outcome
from gpufn.runtime.clock import utc_now
from gpufn.runtime.supervisor import Supervisor
from gpufn.store import invocations, migrate
from gpufn.store.database import Sqlite
from gpufn.store.threaded import ThreadedSqlite


@dataclass
class Measured:
    """Seconds that each acceptance took, and how long the whole took."""

    took: list[float]
    seconds: float

    def __str__(self) -> str:
        took = sorted(self.took)
        p50, p99 = (took[int(len(took) * share)] * 1e3 for share in (0.5, 0.99))
        return f"{len(took) / self.seconds:8,.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"


def an_invocation(journal: Journal, body: int) -> AcceptedInvocation:
    """A row as the gateway writes it."""
    now = utc_now()
    return AcceptedInvocation(
        id=new_id(), nca_id="nvcf-default", function_id=new_id(), version_id=new_id(), form="pexec",
        head=b"NVCF-SUB: bench\r\nNVCF-NCAID: nvcf-default\r\nContent-Type: application/json\r\n",
        request=Body(body, b"x" * body), window=60, accepted_at=now, deadline=now + timedelta(hours=1),
        owner=journal.incarnation, fence=1, attempt=1,
    )  # fmt: skip


async def measure(journal: Journal, *, seconds: float, waiting: int, body: int, whole_life: bool) -> Measured:
    """Accept for so long, ``waiting`` at a time."""
    took: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def caller() -> None:
        while time.perf_counter() < end:
            record = an_invocation(journal, body)
            start = time.perf_counter()
            await journal.accept(record)
            took.append(time.perf_counter() - start)
            if whole_life:
                await live(journal, record)

    await asyncio.gather(*(caller() for _ in range(waiting)))
    return Measured(took, time.perf_counter() - began)


async def live(journal: Journal, record: AcceptedInvocation) -> None:
    """The result comes, is delivered, and has arrived."""
    outcome = Outcome(200, (b"content-type: application/json",), Body(512, b"r" * 512))
    await journal.do(lambda tx: invocations.finish(tx, record.id, fence=1, outcome=outcome, now=utc_now()))
    owner, at = record.owner, utc_now()
    await journal.do(lambda tx: invocations.begin_delivery(tx, record.id, owner=owner, at=at))
    await journal.do(lambda tx: invocations.end_delivery(tx, record.id, owner=owner, at=at, arrived=True))


async def single_commits(db: ThreadedSqlite, journal: Journal, *, seconds: float, body: int) -> Measured:
    """One row, one commit, one after the other: what there is without batches."""
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        record = replace(an_invocation(journal, body), owner="")
        start = time.perf_counter()
        await db.run(lambda tx, record=record: invocations.insert(tx, [record]))  # type: ignore[misc]
        took.append(time.perf_counter() - start)
    return Measured(took, time.perf_counter() - began)


async def run(arguments: argparse.Namespace, directory: Path) -> None:
    """Everything, on a database in ``directory``."""
    sqlite = Sqlite(directory / "gpufn.db")
    migrate.upgrade(sqlite)
    db = ThreadedSqlite(sqlite)
    journal = Journal(db)
    load = {"seconds": arguments.seconds, "waiting": arguments.waiting, "body": arguments.body}
    async with Supervisor() as tasks:
        tasks.start(journal.run(), name="journal")
        print(f"single commits      {await single_commits(db, journal, seconds=1, body=arguments.body)}")
        print(f"accepted            {await measure(journal, **load, whole_life=False)}")
        print(f"accepted, whole life{await measure(journal, **load, whole_life=True)}")
    await db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--waiting", type=int, default=64)
    parser.add_argument("--body", type=int, default=512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        uvloop.run(run(arguments, Path(directory)))


if __name__ == "__main__":
    main()

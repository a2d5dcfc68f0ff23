"""How much the control plane has to do with many functions: ``python bench/control.py``.

10,000 functions of three versions each in a SQLite file; then calls of the API, one after the other, in this process
and without a network. Prints the median and the 99th percentile of the CPU time (what others do on the machine does not
count), the resident memory that each kind of call left behind, and how long it kept everybody else waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI
from obstore.store import MemoryStore

from gpufn.api.app import build
from gpufn.api.context import Context
from gpufn.auth.keyring import Keyring
from gpufn.auth.keys import mint
from gpufn.auth.tokens import Signer, new_keys
from gpufn.compute.fake import FakeBackend
from gpufn.compute.fleet import Fleet
from gpufn.model.access import USER_SCOPES
from gpufn.model.account import Account
from gpufn.model.cluster import Cluster
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, FunctionId, VersionId, new_id
from gpufn.runtime.heap import settle
from gpufn.runtime.hub import Hints
from gpufn.scaling.load import LoadBoard
from gpufn.store import accounts, functions, keys, migrate
from gpufn.store.database import Sqlite, Transaction
from gpufn.store.objects import Objects

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEPPER = b"bench"
BODY = {"name": "bench", "inferenceUrl": "/echo", "containerImage": "docker.io/team/echo:1"}


def a_version(number: int, function_id: str) -> FunctionVersion:
    definition = Definition(inference_url="/echo", health=Health(), container_image="docker.io/team/echo:1")
    return FunctionVersion(
        id=VersionId(new_id()),
        function_id=FunctionId(function_id),
        nca_id=DEFAULT_ACCOUNT,
        name=f"f{number}",
        definition=definition,
        created_at=NOW + timedelta(seconds=number),
        tags=("team:ml",),
    )


def fill(tx: Transaction, count: int) -> list[FunctionVersion]:
    """``count`` functions of three versions; returns every hundredth version."""
    kept = []
    for number in range(count):
        function_id = new_id()
        for _ in range(3):
            version = a_version(number, function_id)
            functions.insert(tx, version)
        if number % 100 == 0:
            kept.append(version)
    return kept


@dataclass
class Answer:
    """A response that is looked at and let go."""

    status: int = 0
    size: int = 0


@dataclass
class Api:
    """Calls the application as a server does, and nothing besides: a client library costs as much as the answer."""

    app: FastAPI
    key: str

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request, and let go of what comes back."""
        given = Answer()
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json", "host": "api"}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            given.status = message.get("status", given.status)
            given.size += len(message.get("body", b""))

        await self.app(scope, receive, send)
        return given


async def longest_wait(until: asyncio.Event) -> float:
    """The longest time, in seconds, for which nobody else had a turn on the loop."""
    longest = 0.0
    while not until.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def measured(name: str, call: Callable[[int], Awaitable[Answer]], times: int) -> None:
    """Make the call so often; print what it took, and how long others waited for their turn at most."""
    process, took, size = psutil.Process(), [], 0
    for n in range(min(times, 20)):
        await call(n)
    before = process.memory_info().rss
    for n in range(times):
        began = time.process_time()
        answer = await call(n)
        took.append((time.process_time() - began) * 1000)
        assert answer.status in (200, 204), answer
        size = answer.size
    grown = (process.memory_info().rss - before) / 2**20
    took.sort()
    p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
    print(
        f"{name:28} p50 {statistics.median(took):9.2f} ms   p99 {p99:9.2f} ms   {size:>10} B   {grown:+7.1f} MiB   "
        f"others waited {await waited(call) * 1000:7.1f} ms",
        flush=True,
    )


async def waited(call: Callable[[int], Awaitable[Answer]]) -> float:
    """For how long, at most, one such call keeps the loop from everybody else, in seconds."""
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(longest_wait(done))
        await asyncio.sleep(0)
        await call(0)
        done.set()
    return watching.result()


async def run(count: int, times: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        db = Sqlite(Path(directory) / "gpufn.db")
        migrate.upgrade(db)
        key, value = mint(pepper=PEPPER, nca_id=DEFAULT_ACCOUNT, owner="bench", scopes=USER_SCOPES, now=NOW)

        def prepare(tx: Transaction) -> list[FunctionVersion]:
            accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "bench", NOW))
            keys.insert(tx, key)
            return fill(tx, count)

        known = await db.run(prepare)
        context = Context(
            db=db,
            hints=Hints(),
            load=LoadBoard(started=0.0),
            fleet=Fleet(Cluster("c", "local", "g", "local", "local", ()), FakeBackend()),
            pepper=PEPPER,
            keyring=Keyring.load(None, lambda _: None),
            signer=Signer(new_keys(), name="http://api"),
            logs=FakeBackend(),
            objects=Objects(MemoryStore()),
            started_at=NOW,
        )
        api = Api(build(context), value)
        settle()
        await calls(api, known, times)
        await db.close()


async def calls(api: Api, known: list[FunctionVersion], times: int) -> None:
    at, body = "/v2/nvcf/functions", json.dumps(BODY).encode()

    def one(n: int) -> FunctionVersion:
        return known[n % len(known)]

    await measured("create", lambda n: api.call("POST", at, body), times)
    await measured("get", lambda n: api.call("GET", f"{at}/{one(n).function_id}/versions/{one(n).id}"), times)
    await measured("versions of a function", lambda n: api.call("GET", f"{at}/{one(n).function_id}/versions"), times)
    await measured("ids of all", lambda n: api.call("GET", f"{at}/ids"), 5)
    await measured("list all", lambda n: api.call("GET", at), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=int, default=10_000, help="functions, of three versions each")
    parser.add_argument("--times", type=int, default=500, help="calls of each kind")
    options = parser.parse_args()
    asyncio.run(run(options.functions, options.times))


if __name__ == "__main__":
    main()

"""The internal socket: the feed that gateways follow, and the load they report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest

from gpufn.api import internal
from gpufn.runtime.clock import loop_now
from gpufn.runtime.hub import Hints, Retained
from gpufn.scaling.load import LoadBoard
from gpufn.wire.feed import ENVELOPE, KeyGone, Message, RouteGone, Synced


async def take(lines: AsyncGenerator[bytes, None], count: int) -> list[bytes]:
    return [await anext(lines) for _ in range(count)]


async def test_the_feed_is_what_is_retained_then_synced_then_changes() -> None:
    """A gateway that connects learns everything once, hears that it is up to date, and follows."""
    feed: Retained[Message] = Retained()
    feed.publish("version:a", RouteGone(version_id="a"))
    feed.publish("version:b", RouteGone(version_id="b"))
    lines = internal.lines(feed)

    first = [ENVELOPE.validate_json(line) for line in await take(lines, 3)]
    feed.publish("key:c", KeyGone(key_id="c"))
    change = ENVELOPE.validate_json(await anext(lines))
    await lines.aclose()

    assert [e.seq for e in first] == [1, 2, 2]
    assert [e.message for e in first] == [RouteGone(version_id="a"), RouteGone(version_id="b"), Synced()]
    assert (change.seq, change.message) == (3, KeyGone(key_id="c"))


@pytest.mark.looptime
async def test_silence_is_filled_with_empty_lines() -> None:
    """Every heartbeat without news is an empty line, so that a dead peer is noticed; news still comes after it."""
    feed: Retained[Message] = Retained()
    lines = internal.lines(feed, heartbeat=5.0)
    await anext(lines)
    started = loop_now()

    beats = await take(lines, 2)
    waited = loop_now() - started
    feed.publish("key:c", KeyGone(key_id="c"))
    news = await anext(lines)
    await lines.aclose()

    assert beats == [b"\n", b"\n"]
    assert waited == pytest.approx(10.0)
    assert ENVELOPE.validate_json(news).message == KeyGone(key_id="c")


async def test_a_feed_that_is_left_leaves_nothing_behind() -> None:
    """Closing the stream ends its task, also while it is waiting."""
    before = asyncio.all_tasks()
    feed: Retained[Message] = Retained()
    lines = internal.lines(feed)
    await anext(lines)
    await lines.aclose()

    assert asyncio.all_tasks() == before


async def test_load_reports_reach_the_board_and_are_hinted() -> None:
    """A report changes the load; only versions whose load changed are hinted; junk is refused."""
    load, hints, hinted = LoadBoard(started=loop_now()), Hints(), list[str]()
    hints.on("load", hinted.append)
    app = internal.build(Retained(), load, hints)
    report = {"gateway": "g", "seq": 1, "versions": {"v": {"queued": 2, "inFlight": 1}}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://internal") as client:
        statuses = [
            (await client.post("/load", json=report)).status_code,
            (await client.post("/load", json=report)).status_code,
            (await client.post("/load", content=b"junk")).status_code,
            (await client.get("/load")).status_code,
        ]

    assert statuses == [204, 204, 400, 405]
    assert hinted == ["v"]
    assert load.load("v", now=loop_now()).queued == 2

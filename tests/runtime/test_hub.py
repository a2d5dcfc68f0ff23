"""Hints, and the snapshot-and-changes stream."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from gpufn.runtime.backoff import Backoff
from gpufn.runtime.hub import Hints, Retained


async def _next(stream: Any) -> Any:
    async with asyncio.timeout(5):
        return await anext(stream)


def test_a_hint_reaches_the_listeners_of_its_topic() -> None:
    """Every listener of a topic hears its keys, and nobody else's."""
    heard: list[str] = []
    hints = Hints()
    hints.on("t", heard.append)
    hints.hint("t", "a")
    hints.hint("other", "b")
    assert heard == ["a"]


async def test_a_subscriber_gets_the_snapshot_then_none_then_changes() -> None:
    """What is retained comes first, in order of publication, then None once, then each change and farewell."""
    feed: Retained[str] = Retained()
    feed.publish("b", "1")
    feed.publish("a", "2")
    async with aclosing(feed.subscribe()) as stream:  # type: ignore[type-var]
        assert [await _next(stream) for _ in range(3)] == [(1, "b", "1"), (2, "a", "2"), None]
        feed.publish("b", "3")
        assert await _next(stream) == (3, "b", "3")
        feed.retract("a", "bye")
        assert await _next(stream) == (4, "a", "bye")
    assert dict(feed.latest()) == {"b": (3, "3")}


async def test_a_slow_subscriber_gets_the_last_message_of_each_key() -> None:
    """Intermediate messages of a key are dropped, and sequence numbers stay ascending."""
    feed: Retained[str] = Retained()
    async with aclosing(feed.subscribe()) as stream:  # type: ignore[type-var]
        assert await _next(stream) is None
        for key, text in (("a", "1"), ("b", "2"), ("a", "3")):
            feed.publish(key, text)
        assert [await _next(stream), await _next(stream)] == [(2, "b", "2"), (3, "a", "3")]


def test_publishing_the_same_again_changes_nothing() -> None:
    """A message equal to the retained one keeps its number; retracting an unknown key takes none."""
    feed: Retained[str] = Retained()
    assert feed.publish("a", "1") == 1
    assert feed.publish("a", "1") == 1
    feed.retract("unknown", "bye")
    assert (feed.seq, feed.seq_of("a"), len(feed)) == (1, 1, 1)


def test_backoff_doubles_up_to_its_cap() -> None:
    """No failure means no delay; each further failure doubles it, never above the cap, however many there were."""
    backoff = Backoff(base=1, cap=10)
    assert [backoff.delay(n) for n in (0, 1, 2, 3, 4, 5, 10_000)] == [0, 1, 2, 4, 8, 10, 10]

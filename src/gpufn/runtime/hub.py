"""Telling others inside one process that something happened.

``Hints`` wakes controllers: "look at this key". ``Retained`` keeps the latest message per key and streams it, with
everything that follows, to whoever subscribes: a snapshot and a change feed in one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Generic, TypeVar

M = TypeVar("M")


class Hints:
    """Topics that controllers listen to. A hint carries a key and nothing else; losing one costs only time."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[str], None]]] = {}

    def on(self, topic: str, listener: Callable[[str], None]) -> None:
        """Call ``listener(key)`` whenever ``topic`` is hinted."""
        self._listeners.setdefault(topic, []).append(listener)

    def hint(self, topic: str, key: str) -> None:
        """Whatever ``key`` names on ``topic`` may have changed."""
        for listener in self._listeners.get(topic, ()):
            listener(key)


class Retained(Generic[M]):
    """The latest message of every key, and a stream of what changes. ``seq`` counts publications."""

    def __init__(self) -> None:
        self.seq = 0
        self._latest: dict[str, tuple[int, M]] = {}
        self._subscribers: set[_Subscriber[M]] = set()

    def __len__(self) -> int:
        return len(self._latest)

    def latest(self) -> Mapping[str, tuple[int, M]]:
        """Every retained message by key, with the sequence number it was published under."""
        return self._latest

    def seq_of(self, key: str) -> int:
        """The sequence number ``key`` was last published under; for an unknown key that of the latest publication."""
        entry = self._latest.get(key)
        return entry[0] if entry else self.seq

    def publish(self, key: str, message: M) -> int:
        """Retain ``message`` under ``key`` and pass it on, unless it is what subscribers already have."""
        entry = self._latest.get(key)
        if entry is not None and entry[1] == message:
            return entry[0]
        self.seq += 1
        self._latest[key] = (self.seq, message)
        self._tell(key, message)
        return self.seq

    def retract(self, key: str, farewell: M) -> None:
        """Forget ``key``; those who listen now are sent ``farewell``, those who come later never hear of it."""
        if self._latest.pop(key, None) is not None:
            self.seq += 1
            self._tell(key, farewell)

    def _tell(self, key: str, message: M) -> None:
        for subscriber in self._subscribers:
            subscriber.changed(key, self.seq, message)

    async def subscribe(self) -> AsyncIterator[tuple[int, str, M] | None]:
        """Every retained message, then ``None`` once (you are up to date), then each change.

        A subscriber that is slow misses intermediate messages of a key, never the last one: memory stays bounded by
        the number of keys.
        """
        subscriber: _Subscriber[M] = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            for key, (seq, message) in sorted(self._latest.items(), key=lambda item: item[1][0]):
                yield seq, key, message
            yield None
            while True:
                for key, (seq, message) in (await subscriber.wait()).items():
                    yield seq, key, message
        finally:
            self._subscribers.discard(subscriber)


class _Subscriber(Generic[M]):
    def __init__(self) -> None:
        self._dirty: dict[str, tuple[int, M]] = {}
        self._wakeup = asyncio.Event()

    def changed(self, key: str, seq: int, message: M) -> None:
        self._dirty.pop(key, None)  # to the end: sequence numbers stay ascending
        self._dirty[key] = (seq, message)
        self._wakeup.set()

    async def wait(self) -> dict[str, tuple[int, M]]:
        while not self._dirty:
            self._wakeup.clear()
            await self._wakeup.wait()
        dirty, self._dirty = self._dirty, {}
        return dirty

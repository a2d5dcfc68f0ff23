"""The phases of an instance's start, from the wish for it until it takes work: where a cold start spends its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest


class StartPhase(StrEnum):
    """What the start of an instance is doing. In this order; one may be left out, none is gone back to."""

    QUEUED = "queued"
    """Recorded; nobody has taken it up."""
    PLACING = "placing"
    """A place that can run it is sought, and asked to."""
    PULLING = "pulling"
    """Its image is fetched, or its environment built."""
    STARTING = "starting"
    """Its process or container is made."""
    LOADING = "loading"
    """It runs, and its health check does not succeed yet: it boots and loads its model."""
    READY = "ready"
    """It takes work: the start is over."""


ORDER = tuple(StartPhase)


@dataclass(frozen=True)
class Mark:
    """A phase, and when it began."""

    phase: StartPhase
    at: datetime


@dataclass(frozen=True)
class Span:
    """A phase, when it began, and how many seconds it took; None while it goes on."""

    phase: StartPhase
    began: datetime
    seconds: float | None


def entered(marks: tuple[Mark, ...], phase: StartPhase, now: datetime) -> tuple[Mark, ...]:
    """``marks`` with the beginning of ``phase``; as they are when it has begun before, or a later one has."""
    if marks and ORDER.index(marks[-1].phase) >= ORDER.index(phase):
        return marks
    return (*marks, Mark(phase, max(now, marks[-1].at) if marks else now))


def spans(marks: Sequence[Mark], *, ended: datetime | None = None) -> tuple[Span, ...]:
    """How long each phase took. ``ended``: when a start that failed was over. READY, which is no wait, is left out."""
    found = []
    for mark, following in zip_longest(marks, marks[1:]):
        if mark.phase is not StartPhase.READY:
            until = following.at if following is not None else ended
            found.append(Span(mark.phase, mark.at, None if until is None else (until - mark.at).total_seconds()))
    return tuple(found)


def summary(marks: Sequence[Mark], *, ended: datetime | None = None) -> str:
    """The phases that took a moment, in words: ``pulling 12.1 s, loading 3.4 s``; empty when none did."""
    parts = [f"{s.phase} {s.seconds:.1f} s" for s in spans(marks, ended=ended) if s.seconds and s.seconds >= 0.05]
    return ", ".join(parts)

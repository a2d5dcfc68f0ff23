"""Times as people write them: ``45m`` from now or ago, or a moment."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

from gpufn.runtime.clock import utc_now

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])")


def duration(text: str) -> timedelta:
    """For an option such as ``--expires-in 12h``."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write it like 45m, 12h or 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str) -> datetime:
    """For an option such as ``--since 10m`` (ago) or ``--since 2026-01-31T12:00:00Z``; UTC where no zone is named."""
    if _DURATION.fullmatch(text):
        return utc_now() - duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write how long ago, like 10m, or a moment, like 2026-01-31T12:00:00Z"
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def wire(at: datetime) -> str:
    """A moment as the API takes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

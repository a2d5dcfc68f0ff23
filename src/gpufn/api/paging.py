"""Pages of lists: a cursor says where the last one ended (tasks page, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, TypeAlias, TypeVar

from fastapi import Query

from gpufn.model.errors import Invalid
from gpufn.model.ids import is_uuid

T = TypeVar("T")

DEFAULT_LIMIT = 10
LIMIT_MAX = 10_000
"""Most elements of one page, whatever is asked for."""
CURSOR_MAX = 512

LimitQuery: TypeAlias = Annotated[int | None, Query(alias="limit", ge=1, le=2**31 - 1)]
CursorQuery: TypeAlias = Annotated[str | None, Query(alias="cursor", max_length=CURSOR_MAX)]


@dataclass(frozen=True)
class Page(Generic[T]):
    """Up to ``limit`` elements; ``limit`` and ``cursor`` are None on the last page."""

    elements: Sequence[T]
    limit: int | None
    cursor: str | None


@dataclass(frozen=True)
class Paging:
    """What a caller asked for."""

    limit: int
    after: tuple[datetime, str] | None

    @staticmethod
    def of(limit: int | None, cursor: str | None) -> Paging:
        """Raises Invalid for a cursor that we did not give."""
        return Paging(min(limit or DEFAULT_LIMIT, LIMIT_MAX), None if cursor is None else _parse(cursor))

    @property
    def fetched(self) -> int:
        """How many to read: one more than is shown, which tells whether another page is."""
        return self.limit + 1

    def page(self, found: Sequence[T], key: Callable[[T], tuple[datetime, str]]) -> Page[T]:
        """The page out of what was read."""
        if len(found) <= self.limit:
            return Page(found, None, None)
        shown = found[: self.limit]
        moment, last = key(shown[-1])
        return Page(shown, self.limit, f"{moment.isoformat()} {last}".encode().hex())


def _parse(cursor: str) -> tuple[datetime, str]:
    try:
        moment, _, last = bytes.fromhex(cursor).decode().partition(" ")
        found = datetime.fromisoformat(moment)
        if found.tzinfo is None or not is_uuid(last):
            raise ValueError(cursor)
    except ValueError as error:
        raise Invalid(f"Invalid cursor: '{cursor[:CURSOR_MAX]}'") from error
    return found, last

"""State machines as tables."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from gpufn.model.errors import Conflict

S = TypeVar("S", bound=StrEnum)


class Machine(Generic[S]):
    """Which state may follow which. A state with no successor is terminal."""

    def __init__(self, successors: Mapping[S, frozenset[S]]) -> None:
        self._successors = successors

    def check(self, current: S, to: S) -> S:
        """``to``, if it may follow ``current``; else raises Conflict."""
        if to not in self._successors[current]:
            raise Conflict(f"cannot go from {current} to {to}", current=current, to=to)
        return to

    def is_terminal(self, state: S) -> bool:
        return not self._successors[state]

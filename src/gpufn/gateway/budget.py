"""How much memory may be taken by things that have to be held as a whole."""

from __future__ import annotations


class Budget:
    """At most ``each_max`` bytes for one thing and ``total_max`` for all of them."""

    def __init__(self, *, each_max: int, total_max: int) -> None:
        self._each_max, self._total_max = each_max, total_max
        self._total = 0

    def __repr__(self) -> str:
        return f"<Budget bytes={self._total}>"

    def reserve(self, size: int, already: int) -> str | None:
        """Make room for ``size`` more bytes of a thing that has ``already``; else why there is none."""
        if already + size > self._each_max:
            return f"the response is larger than {self._each_max} bytes, too large to be wrapped; use pexec"
        if self._total + size > self._total_max:
            return f"responses being wrapped already take {self._total_max} bytes; retry later, or use pexec"
        self._total += size
        return None

    def free(self, size: int) -> None:
        """``size`` bytes are not held any more."""
        self._total -= size

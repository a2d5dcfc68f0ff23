"""How far a pull is, from the events an engine sends about each layer. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYERS_MAX = 1000
"""Layers kept track of; engines allow far fewer."""

_DONE = frozenset({"Download complete", "Verifying Checksum", "Extracting", "Pull complete", "Already exists"})


class Progress:
    """Adds up the bytes of all layers that the engine has told the size of."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def __str__(self) -> str:
        percent = self.percent
        return "pulling" if percent is None else f"pulling {percent} %"

    @property
    def percent(self) -> int | None:
        """Whole percent downloaded, 0 to 100; None while no size is known."""
        total = sum(total for _, total in self._layers.values())
        return None if total == 0 else 100 * sum(done for done, _ in self._layers.values()) // total

    def saw(self, event: Mapping[str, Any]) -> None:
        """Take in one event: ``{"status": "Downloading", "id": …, "progressDetail": {"current": …, "total": …}}``."""
        layer, status = event.get("id"), event.get("status")
        if not isinstance(layer, str) or (layer not in self._layers and len(self._layers) >= LAYERS_MAX):
            return
        _, known = self._layers.get(layer, (0, 0))
        if status in _DONE:
            if known:
                self._layers[layer] = (known, known)
            return
        detail = event.get("progressDetail")
        current, total = (detail.get("current"), detail.get("total")) if isinstance(detail, Mapping) else (None, None)
        if status == "Downloading" and isinstance(current, int) and isinstance(total, int) and total > 0:
            self._layers[layer] = (max(0, min(current, total)), total)

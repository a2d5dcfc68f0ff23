"""Assets end: their bytes and their rows go when their time is over."""

from __future__ import annotations

from collections.abc import Sequence

from gpufn.controllers.context import Context
from gpufn.model.asset import object_key
from gpufn.runtime.controller import Controller
from gpufn.store import assets

EXPIRED = "expired"
BATCH = 100
"""Assets deleted in one pass."""
MORE = 0.1
"""Seconds until the next pass when one was not enough."""


class Assets:
    """One key, one chore."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.controller = Controller("assets", self.reconcile, self.keys, workers=1, resync=context.settings.resync)

    async def keys(self) -> Sequence[str]:
        """The chore."""
        return (EXPIRED,)

    async def reconcile(self, chore: str) -> float | None:
        """One bounded round. The rows go last: a crash leaves something to find."""
        now = self._context.now()
        old = await self._context.db.run(lambda tx: assets.expired(tx, now, limit=BATCH))
        if not old:
            return None
        await self._context.objects.delete(*(object_key(asset.nca_id, asset.id) for asset in old))
        await self._context.db.run(lambda tx: [assets.delete(tx, asset.id) for asset in old])
        return MORE if len(old) == BATCH else None

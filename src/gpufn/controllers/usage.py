"""The meter: every few seconds, what each version has used since the last look. Nothing is counted while it is away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from gpufn.controllers.context import Context
from gpufn.model.ids import AccountId, FunctionId, VersionId
from gpufn.model.instance import Instance
from gpufn.model.usage import Usage, spent
from gpufn.runtime.clock import loop_now
from gpufn.runtime.controller import Controller
from gpufn.store import functions, instances, usage
from gpufn.store.database import Transaction

EVERY = 5.0
"""Seconds between two looks: an instance counts as idle for as long as it is seen idle."""
METER = "meter"


class Meter:
    """One key."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since: datetime | None = None
        self._served: dict[str, int] = {}
        self.controller = Controller("usage", self.reconcile, self.keys, workers=1, resync=context.settings.resync)

    async def keys(self) -> Sequence[str]:
        """The one chore."""
        return (METER,)

    async def reconcile(self, _: str) -> float | None:
        """Write down what was used since the last look."""
        now, loop_time = self._context.now(), loop_now()
        since, served = self._since or now, dict(self._served)
        await self._context.db.run(lambda tx: self._write(tx, since, now, loop_time, served))
        self._since, self._served = now, served  # only now: what failed is counted by the next look
        return EVERY

    def _write(self, tx: Transaction, since: datetime, now: datetime, loop_time: float, served: dict[str, int]) -> None:
        sums: dict[tuple[AccountId, FunctionId, VersionId], Usage] = {}
        for instance in instances.live_since(tx, since):
            whose = (instance.nca_id, instance.function_id, instance.version_id)
            sums[whose] = sums.get(whose, Usage()) + self._spent(instance, since, now, loop_time)
        for version in functions.every(tx):
            total = self._context.load.load(version.id, now=loop_time).served
            more = total - served.get(version.id, 0)
            served[version.id] = total
            if more > 0:
                whose = (version.nca_id, version.function_id, version.id)
                sums[whose] = sums.get(whose, Usage()) + Usage(requests=more)
        hour = now.replace(minute=0, second=0, microsecond=0)
        for (nca_id, function_id, version_id), more_used in sums.items():
            usage.add(tx, nca_id, function_id, version_id, hour=hour, more=more_used)
        usage.forget(tx, before=now - timedelta(seconds=self._context.settings.keep_usage))

    def _spent(self, instance: Instance, since: datetime, now: datetime, loop_time: float) -> Usage:
        busy = self._context.load.busy(instance.version_id, now=loop_time)
        found = self._context.fleet.clusters.shape(instance.gpu, instance.instance_type)
        return spent(
            instance,
            since,
            now,
            gpus=found[1].gpu_count if found is not None else 0,
            busy=busy is None or busy.get(instance.id, 0) > 0,
        )

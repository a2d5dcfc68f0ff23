"""Where the API reads the output of instances and runs commands beside them: in the cluster where each of them is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpufn.compute.backend import Backend, ExecResult, LogLine
from gpufn.compute.fleet import Fleet
from gpufn.model.ids import InstanceId
from gpufn.store import instances
from gpufn.store.database import Database


@dataclass(frozen=True)
class Inside:
    """An instance of a task is recorded with no cluster once it is past, so it is looked for everywhere."""

    db: Database
    fleet: Fleet

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[LogLine]:
        """The last ``tail`` lines (None: all) written after ``since``, then, with ``follow``, what comes."""
        for backend in await self._where(instance_id):
            async for line in backend.logs(instance_id, follow=follow, tail=tail, since=since):
                yield line

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """Run a command where the instance runs; None when it does not run."""
        for backend in await self._where(instance_id):
            found = await backend.exec(instance_id, command, seconds=seconds)
            if found is not None:
                return found
        return None

    async def _where(self, instance_id: InstanceId) -> Sequence[Backend]:
        instance = await self.db.run(lambda tx: instances.get(tx, instance_id))
        if instance is None:
            return [backend for _, backend in self.fleet.everywhere()]
        return [self.fleet.backend(instance.cluster_id)]

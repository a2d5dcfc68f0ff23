"""Keeping what a task leaves behind in the object store, file by file (tasks page, section 10, UPLOAD).

The store is the registry that results are kept in: a result is a list of files, each under a key that is made of ids
and a number, never of a name that the task chose. Keeping the same result again puts the same objects in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from gpufn.compute.task_files import BadFile, FoundFile, TaskFiles, TooManyFiles
from gpufn.controllers.task_progress import Progress
from gpufn.model.errors import Stale, Unavailable
from gpufn.model.ids import stable_id
from gpufn.model.task import ResultFile, ResultStrategy, Task, TaskResult
from gpufn.store.objects import Objects

Check: TypeAlias = Callable[[], Awaitable[None]]
"""Asked again and again while a result is kept. Raises Stale when the task has changed, so that nobody waits for it."""

ALL = "results"
"""The name of the result that is everything a task left which never reported one."""


@dataclass(frozen=True)
class _Kept:
    """What a result is to be. Its id is the same whenever the same is kept again."""

    task: Task
    name: str
    metadata: dict[str, Any]
    now: datetime

    @property
    def id(self) -> str:
        percent = str(self.metadata["percentComplete"])
        return stable_id("task-result", self.task.id, str(self.task.attempt), self.name, percent)


class ResultKeeper:
    """Moves results from the directories of tasks into the object store."""

    def __init__(self, files: TaskFiles, objects: Objects) -> None:
        self._files, self._objects = files, objects

    async def named(self, task: Task, progress: Progress, now: datetime, check: Check) -> TaskResult | str | None:
        """Keep the result that a report names; None when none is to be kept, or why it cannot be. Raises Stale."""
        if task.definition.result_strategy is ResultStrategy.NONE:
            return None
        try:
            found = await self._files.files(task.id, progress.name)
        except TooManyFiles as error:
            return str(error)
        if found is None:
            return "failed to find directory to upload"
        metadata = progress.metadata | {"percentComplete": progress.percent}
        try:
            return await self._keep(_Kept(task, progress.name, metadata, now), found, check)
        except BadFile as error:
            return f"failed to upload some results: {error}"

    async def all_of(self, task: Task, now: datetime, check: Check) -> TaskResult | str | None:
        """Keep everything a task left that never reported; None when there is nothing to keep, or why it cannot be.
        Raises Stale.
        """
        if task.definition.result_strategy is ResultStrategy.NONE:
            return None
        try:
            found = await self._files.files(task.id, "")
            return await self._keep(_Kept(task, "", {"percentComplete": 100}, now), found, check) if found else None
        except (TooManyFiles, BadFile) as error:
            return f"failed to upload some results: {error}"

    async def forget(self, task_id: str) -> None:
        """Delete every object of a task."""
        keys = [facts.key async for facts in self._objects.list(_prefix(task_id))]
        await self._objects.delete(*keys)

    async def _keep(self, result: _Kept, found: Sequence[FoundFile], check: Check) -> TaskResult:
        kept = []
        for n, file in enumerate(found):
            await check()
            kept.append(await self._keep_file(result, file, f"{_prefix(result.task.id)}/{result.id}/{n}", check))
        name = f"{result.name or ALL}_{result.id}"
        return TaskResult(result.id, result.task.id, name, result.metadata, result.now, tuple(kept))

    async def _keep_file(self, result: _Kept, file: FoundFile, key: str, check: Check) -> ResultFile:
        digest, size = hashlib.sha256(), 0

        bad: BadFile | Stale | None = None

        async def content() -> AsyncIterator[bytes]:
            nonlocal size, bad
            try:
                async for piece in self._files.read(result.task.id, result.name, file.path):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
                    await check()
            except (BadFile, Stale) as error:
                bad = error
                raise

        try:
            await self._objects.put(key, content())
        except (BadFile, Stale, Unavailable) as error:  # the store's library may put its own error around ours
            raise (bad or error) from error
        return ResultFile(file.path, size, digest.hexdigest(), key)


def _prefix(task_id: str) -> str:
    return f"tasks/{task_id}"

"""Keeping what a task leaves behind in the object store, file by file (tasks page, section 10, UPLOAD).

The store is the registry that results are kept in: a result is a list of files, each under a key that is made of ids
and a number, never of a name that the task chose. Keeping the same result again puts the same objects in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from gpufn.compute.task_files import BadFile, FoundFile, TaskFiles, TooManyFiles
from gpufn.controllers.task_progress import Progress
from gpufn.model.errors import Unavailable
from gpufn.model.ids import stable_id
from gpufn.model.task import ResultFile, ResultStrategy, Task, TaskResult
from gpufn.store.objects import Objects

ALL = "results"
"""The name of the result that is everything a task left which never reported one."""


class ResultKeeper:
    """Moves results from the directories of tasks into the object store."""

    def __init__(self, files: TaskFiles, objects: Objects) -> None:
        self._files, self._objects = files, objects

    async def named(self, task: Task, progress: Progress, now: datetime) -> TaskResult | str | None:
        """Keep the result that a report names; None when none is to be kept, or why it cannot be."""
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
            return await self._keep(task, progress.name, found, metadata, now)
        except BadFile as error:
            return f"failed to upload some results: {error}"

    async def all_of(self, task: Task, now: datetime) -> TaskResult | str | None:
        """Keep everything a task left that never reported; None when there is nothing to keep, or why it cannot be."""
        if task.definition.result_strategy is ResultStrategy.NONE:
            return None
        try:
            found = await self._files.files(task.id, "")
            return await self._keep(task, "", found, {"percentComplete": 100}, now) if found else None
        except (TooManyFiles, BadFile) as error:
            return f"failed to upload some results: {error}"

    async def forget(self, task_id: str) -> None:
        """Delete every object of a task."""
        keys = [facts.key async for facts in self._objects.list(_prefix(task_id))]
        await self._objects.delete(*keys)

    async def _keep(
        self, task: Task, name: str, found: Sequence[FoundFile], metadata: dict[str, Any], now: datetime
    ) -> TaskResult:
        result_id = stable_id("task-result", task.id, str(task.attempt), name, str(metadata["percentComplete"]))
        kept = [
            await self._keep_file(task.id, name, file, f"{_prefix(task.id)}/{result_id}/{n}")
            for n, file in enumerate(found)
        ]
        return TaskResult(result_id, task.id, f"{name or ALL}_{result_id}", metadata, now, tuple(kept))

    async def _keep_file(self, task_id: str, name: str, file: FoundFile, key: str) -> ResultFile:
        digest, size = hashlib.sha256(), 0

        bad: BadFile | None = None

        async def content() -> AsyncIterator[bytes]:
            nonlocal size, bad
            try:
                async for piece in self._files.read(task_id, name, file.path):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
            except BadFile as error:
                bad = error
                raise

        try:
            await self._objects.put(key, content())
        except (BadFile, Unavailable) as error:  # the store's library may put its own error around ours
            raise (bad or error) from error
        return ResultFile(file.path, size, digest.hexdigest(), key)


def _prefix(task_id: str) -> str:
    return f"tasks/{task_id}"

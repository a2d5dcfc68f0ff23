"""Keeping results that are large or take long."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from task_building import BEGIN, a_task
from task_world import TaskWorld, task_control

from gpufn.compute.fake import FakeBackend, FakeTaskFiles
from gpufn.compute.task_files import LocalTaskFiles
from gpufn.controllers.task_progress import Progress
from gpufn.controllers.task_results import ResultKeeper
from gpufn.model.task import ResultStrategy, TaskResult, TaskWanted
from gpufn.store import tasks
from gpufn.store.objects import open_objects

MIB = 1024 * 1024
LARGE = 256 * MIB


async def _nobody_minds() -> None:
    """Nothing has changed."""


async def test_a_large_result_is_streamed(tmp_path: Path) -> None:
    """256 MiB are kept in pieces: the process grows by a small part of that, and all of it is there."""
    files = LocalTaskFiles(tmp_path / "tasks")
    task = a_task(result_strategy=ResultStrategy.UPLOAD)
    folder = Path(await files.prepare(task.id)) / "results" / "ckpt"
    folder.mkdir()
    with (folder / "weights").open("wb") as file:
        file.truncate(LARGE)  # a hole: nothing but zeros
    objects = open_objects("", tmp_path / "objects")
    process, before, most = psutil.Process(), psutil.Process().memory_info().rss, 0

    async def look() -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)

    kept = await ResultKeeper(files, objects).named(task, Progress(50, "ckpt", BEGIN), BEGIN, look)

    assert isinstance(kept, TaskResult)
    (file_kept,) = kept.files
    assert (file_kept.path, file_kept.size) == ("weights", LARGE)
    assert file_kept.sha256 == hashlib.sha256(bytes(LARGE)).hexdigest()
    facts = await objects.head(file_kept.key)
    assert facts is not None
    assert facts.size == LARGE
    assert most - before < LARGE // 3


class SlowFiles(FakeTaskFiles):
    """Every result is one file that is read for three minutes."""

    async def read(self, task_id: str, name: str, path: str) -> AsyncIterator[bytes]:
        """A byte each second."""
        for _ in range(180):
            await asyncio.sleep(1)
            yield b"x"


async def reporting(it: TaskWorld) -> str:
    """A task whose result is being kept."""
    task = await it.launch(result_strategy=ResultStrategy.UPLOAD)
    await it.until(task, "LAUNCHED")
    await asyncio.sleep(2)
    it.files.left[task] = {"ckpt/weights": b"?"}
    it.report(task, 50, "ckpt")
    await it.until(task, "RUNNING")
    await asyncio.sleep(2)
    return task


async def results(it: TaskWorld, task: str) -> list[TaskResult]:
    """Those that are recorded."""
    return await it.world.context.db.run(lambda tx: tasks.results_page(tx, task, limit=10, after=None))


@pytest.mark.looptime
async def test_a_task_is_alive_while_its_result_is_kept() -> None:
    """Heartbeats go on, and the result is there when all of it is."""
    async with task_control(FakeBackend(), files=SlowFiles()) as it:
        task = await reporting(it)
        await asyncio.sleep(150)
        beat = (await it.task(task)).heartbeat_at
        assert beat is not None
        assert it.world.context.now() - beat <= timedelta(seconds=62)
        assert await results(it, task) == []
        await asyncio.sleep(40)
        (kept,) = await results(it, task)

        assert [f.size for f in kept.files] == [180]
        assert (await it.task(task)).percent == 50


@pytest.mark.looptime
@pytest.mark.parametrize("wanted", [TaskWanted.CANCELED, TaskWanted.DELETED])
async def test_a_cancel_does_not_wait_for_a_result(wanted: TaskWanted) -> None:
    """The task is told to end within seconds, and the half of a result is none."""
    async with task_control(FakeBackend(), files=SlowFiles()) as it:
        task = await reporting(it)
        await it.want(task, wanted)

        async def over() -> bool:
            return not await it.exists(task) or (await it.task(task)).ended_at is not None

        assert await it.world.until(over, 60) < 10
        assert await results(it, task) == []

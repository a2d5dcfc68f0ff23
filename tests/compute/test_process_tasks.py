"""Tasks as processes: what they find, what they leave, and that their end is known whoever is there to see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpufn.compute.backend import LaunchRequest, Observation, Phase, TaskLaunch
from gpufn.compute.catalog import Catalog
from gpufn.compute.process import ProcessBackend
from gpufn.compute.task_files import BadFile, LocalTaskFiles, TooManyFiles
from gpufn.model.ids import InstanceId, new_id
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings


def an_image(data: Path, script: str) -> None:
    """The image ``job`` in the catalog: a shell script."""
    directory = data / "source"
    directory.mkdir(parents=True)
    (directory / "function.toml").write_text('name = "job"\ncommand = ["/bin/sh", "job.sh"]\n')
    (directory / "job.sh").write_text(script)
    Catalog(data / "images").add(directory)


@asynccontextmanager
async def a_backend(data: Path, *, isolation: str = "none", terminate: bool = True) -> AsyncIterator[ProcessBackend]:
    """The process backend over ``data``."""
    async with Supervisor() as supervisor:
        backend = ProcessBackend(
            ProcessSettings(isolation=isolation, warm=0),
            data=data,
            catalog=Catalog(data / "images"),
            supervisor=supervisor,
        )
        await backend.open()
        try:
            yield backend
        finally:
            await backend.close(terminate=terminate)


async def a_request(data: Path) -> LaunchRequest:
    """A task on the image ``job``, with its directory prepared."""
    task_id = new_id()
    directory = await LocalTaskFiles(data / "tasks").prepare(task_id)
    return LaunchRequest(
        instance_id=InstanceId(new_id()),
        nca_id="nvcf-default",
        function_id=task_id,
        version_id=task_id,
        function_name="job",
        image="job",
        args=None,
        environment=(("NVCT_TASK_NAME", "mine"), ("STEPS", "10")),
        inference_port=0,
        health_port=0,
        gpu="H100",
        gpu_count=1,
        emulated=True,
        instance_type="ON-PREM.GPU.H100_1x",
        instance_type_value="ON-PREM.GPU.H100",
        backend="local",
        region="here",
        task=TaskLaunch(task_id, "train", directory),
    )


async def until(backend: ProcessBackend, instance_id: InstanceId, phase: Phase) -> Observation:
    """Wait until the instance is in ``phase``."""
    async with asyncio.timeout(20):
        while True:
            seen = (await backend.observe([instance_id]))[instance_id]
            if seen.phase is phase:
                return seen
            await asyncio.sleep(0.02)


async def until_there(path: Path) -> None:
    """Wait until the task has made that file."""
    async with asyncio.timeout(20):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  (another process makes it)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("isolation", ["none", "auto"])
async def test_what_a_task_finds(tmp_path: Path, isolation: str) -> None:
    """Section 10: its variables, which win over its user's, and a results directory whose files we see."""
    an_image(
        tmp_path, 'env | grep ^NVC >"$NVCT_RESULTS_DIR/env"; echo "$STEPS" >"$NVCT_PROGRESS_FILE_PATH"; pwd; exit 0'
    )
    async with a_backend(tmp_path, isolation=isolation) as backend:
        request = await a_request(tmp_path)
        await backend.launch(request)
        seen = await until(backend, request.instance_id, Phase.EXITED)

        files = LocalTaskFiles(tmp_path / "tasks")
        assert request.task is not None
        assert seen.failure is not None
        assert seen.failure.exit_code == 0, seen.failure.message
        assert await files.progress(request.task.id) == b"10\n"
        left = b"".join([piece async for piece in files.read(request.task.id, "", "env")]).decode()
        found = dict(line.split("=", 1) for line in left.splitlines())
        assert found["NVCT_TASK_NAME"] == "train"
        assert found["NVCT_TASK_ID"] == request.task.id
        assert found["NVCT_NCA_ID"] == "nvcf-default"
        assert found["NVCT_PROGRESS_FILE_PATH"] == found["NVCT_RESULTS_DIR"] + "/progress"
        assert (found["NVCF_BACKEND"], found["NVCF_INSTANCETYPE"]) == ("local", "ON-PREM.GPU.H100_1x")
        assert "NVCF_FUNCTION_ID" not in found
        assert [f.path for f in await files.files(request.task.id, "") or ()] == ["env"]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
async def test_exit_codes(tmp_path: Path, script: str, code: int) -> None:
    """The exit code of a task is known: its own, or minus the signal that ended it."""
    an_image(tmp_path, script)
    async with a_backend(tmp_path) as backend:
        request = await a_request(tmp_path)
        await backend.launch(request)
        seen = await until(backend, request.instance_id, Phase.EXITED)
        assert seen.failure is not None
        assert seen.failure.exit_code == code


async def test_an_end_that_nobody_saw(tmp_path: Path) -> None:
    """A task that ended while gpufn was away has its exit code all the same."""
    an_image(tmp_path, "sleep 0.5; exit 7")
    async with a_backend(tmp_path, terminate=False) as backend:
        request = await a_request(tmp_path)
        await backend.launch(request)
        await until(backend, request.instance_id, Phase.RUNNING)
    await until_there(tmp_path / "instances" / request.instance_id / "exit-code")
    async with a_backend(tmp_path) as backend:
        seen = await until(backend, request.instance_id, Phase.EXITED)
        assert seen.failure is not None
        assert seen.failure.exit_code == 7
        assert "while gpufn was not running" in seen.failure.message


async def test_a_long_grace_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A task that was given an hour to end does not keep gpufn from stopping."""
    an_image(tmp_path, 'trap "" TERM; touch "$NVCT_RESULTS_DIR/up"; while :; do sleep 0.1; done')
    async with asyncio.timeout(40):
        async with a_backend(tmp_path) as backend:
            backend.close_grace = 0.5
            request = await a_request(tmp_path)
            await backend.launch(request)
            assert request.task is not None
            await until_there(Path(request.task.directory) / "results" / "up")
            await backend.terminate(request.instance_id, grace=3600)
        assert (await backend.observe([request.instance_id]))[request.instance_id].phase is Phase.ABSENT


async def test_a_canceled_task_may_save_its_work(tmp_path: Path) -> None:
    """Told to end, it has its grace period to do so; what it saved then is there."""
    an_image(
        tmp_path,
        'trap "echo done >$NVCT_RESULTS_DIR/saved; sleep 0.5; exit 0" TERM; touch "$NVCT_RESULTS_DIR/up"; '
        "while :; do sleep 0.05; done",
    )
    async with a_backend(tmp_path) as backend:
        request = await a_request(tmp_path)
        await backend.launch(request)
        assert request.task is not None
        results = Path(request.task.directory) / "results"
        await until_there(results / "up")
        began = asyncio.get_running_loop().time()
        await backend.terminate(request.instance_id, grace=15)
        await until(backend, request.instance_id, Phase.ABSENT)

        assert 0.4 < asyncio.get_running_loop().time() - began < 10
        assert (results / "saved").read_text() == "done\n"


async def test_a_task_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """Whoever ignores SIGTERM is killed after the grace period, and not before."""
    an_image(tmp_path, 'trap "" TERM; touch "$NVCT_RESULTS_DIR/up"; while :; do sleep 0.05; done')
    async with a_backend(tmp_path) as backend:
        request = await a_request(tmp_path)
        await backend.launch(request)
        assert request.task is not None
        await until_there(Path(request.task.directory) / "results" / "up")
        began = asyncio.get_running_loop().time()
        await backend.terminate(request.instance_id, grace=1.5)
        await until(backend, request.instance_id, Phase.ABSENT)

        assert asyncio.get_running_loop().time() - began > 1.4


async def test_its_end_is_told(tmp_path: Path) -> None:
    """Whoever wants to know is told of an instance's start and of its end, without looking."""
    an_image(tmp_path, "sleep 0.2; exit 0")
    told: list[tuple[str, Phase]] = []
    async with a_backend(tmp_path) as backend:
        backend.tell = lambda instance_id: told.append((instance_id, backend._seen(instance_id).phase))
        request = await a_request(tmp_path)
        await backend.launch(request)
        await until(backend, request.instance_id, Phase.EXITED)

    assert told == [(request.instance_id, Phase.RUNNING), (request.instance_id, Phase.EXITED)]


async def test_links_lead_nowhere(tmp_path: Path) -> None:
    """What a task links to is not read: neither as progress, nor as a result, nor through a folder."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hidden")
    files = LocalTaskFiles(tmp_path / "tasks")
    results = Path(await files.prepare("t")) / "results"
    (results / "progress").symlink_to(secret / "key")
    (results / "out").mkdir()
    (results / "out" / "real").write_text("mine")
    (results / "out" / "link").symlink_to(secret / "key")
    (results / "dir").symlink_to(secret)

    assert await files.progress("t") is None
    assert [f.path for f in await files.files("t", "out") or ()] == ["real"]
    assert await files.files("t", "dir") is None
    assert await files.files("t", "nothing") is None
    with pytest.raises(BadFile):
        [piece async for piece in files.read("t", "dir", "key")]


async def test_the_next_attempt_is_not_led_out_of_its_directory(tmp_path: Path) -> None:
    """A task that put a link, or a file, in the place of its results directory opens and deletes nothing elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "progress").write_text("somebody's")
    files = LocalTaskFiles(tmp_path / "tasks")
    results = Path(await files.prepare("t")) / "results"
    results.rmdir()
    results.symlink_to(elsewhere)

    await files.prepare("t")

    assert elsewhere.stat().st_mode & 0o777 == 0o700
    assert (elsewhere / "progress").read_text() == "somebody's"
    assert results.is_dir()
    assert not results.is_symlink()
    results.rmdir()
    results.write_text("in the way")
    await files.prepare("t")
    assert results.is_dir()


async def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of more files than are kept is refused."""
    monkeypatch.setattr("gpufn.compute.task_files.FILES_MAX", 2)
    files = LocalTaskFiles(tmp_path)
    results = Path(await files.prepare("t")) / "results"
    for n in range(3):
        (results / str(n)).write_text(json.dumps(n))

    with pytest.raises(TooManyFiles):
        await files.files("t", "")
    await files.remove("t")
    assert not (tmp_path / "t").exists()

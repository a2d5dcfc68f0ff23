"""The process backend: the contract, and what only processes do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from contract import BackendContract, Subject, a_request, lines, seen, until

from gpufn.compute import process_tree
from gpufn.compute.backend import Backend, BackendError, Phase
from gpufn.compute.catalog import Catalog
from gpufn.compute.gpus import Device, Devices
from gpufn.compute.probes import probe
from gpufn.compute.process import ProcessBackend
from gpufn.compute.process_spawn import bubblewrap_works
from gpufn.model.function import Health
from gpufn.model.ids import InstanceId
from gpufn.model.instance import FailureKind
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

PATIENCE = 15.0
ENVIRON = "import os, json, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(60)"


@dataclass
class Place:
    """A data directory with its catalog, and the backend that is open on it."""

    data: Path
    catalog: Catalog
    supervisor: Supervisor
    settings: ProcessSettings
    devices: Devices
    backend: ProcessBackend

    def image(self, name: str, code: str, *, top: str = "") -> str:
        """Add an image that runs ``code``."""
        source = self.data.parent / f"source-{name}"
        source.mkdir()
        (source / "app.py").write_text(code)
        (source / "function.toml").write_text(f'name = "{name}"\ncommand = ["{{python}}", "app.py"]\n{top}\n')
        return self.catalog.add(source).name

    async def reopen(self) -> Backend:
        """Let go of the processes and open anew."""
        await self.backend.close(terminate=False)
        self.backend = self._new()
        await self.backend.open()
        return self.backend

    def _new(self) -> ProcessBackend:
        return ProcessBackend(
            self.settings, data=self.data, catalog=self.catalog, supervisor=self.supervisor, devices=self.devices
        )


async def _place(data: Path, settings: ProcessSettings) -> AsyncIterator[Place]:
    catalog = Catalog(data / "images")
    async with Supervisor() as supervisor:
        devices = Devices([Device(n, "H100", "NVIDIA H100", 81920, "550") for n in range(4)])
        backend = ProcessBackend(settings, data=data, catalog=catalog, supervisor=supervisor, devices=devices)
        place = Place(data, catalog, supervisor, settings, devices, backend)
        await backend.open()
        try:
            yield place
        finally:
            for instance_id in await place.backend.list():
                await place.backend.terminate(instance_id, grace=0.5)
            await place.backend.close(terminate=True)
            assert process_tree.by_instance(place.backend.installation) == {}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A backend without isolation."""
    async for each in _place(tmp_path / "data", ProcessSettings(isolation="none", warm=0, log_max_bytes=64 * 1024)):
        yield each


@pytest.fixture
async def wrapped(tmp_path: Path) -> AsyncIterator[Place]:
    """A backend with bubblewrap."""
    if not bubblewrap_works():
        pytest.skip("bwrap is not installed, or may not make namespaces here")
    async for each in _place(tmp_path / "data", ProcessSettings(isolation="bubblewrap", warm=0)):
        yield each


def _subject(place: Place) -> Subject:
    exits = place.image("exits", "import sys; print('goodbye'); sys.exit(3)")
    return Subject(place.backend, "echo", exits, "nobody-has/this:1.0", place.reopen)


class TestContract(BackendContract):
    """Plain processes."""

    @pytest.fixture
    def subject(self, place: Place) -> Subject:
        """The backend under test."""
        return _subject(place)


class TestContractWithBubblewrap(BackendContract):
    """The same in bubblewrap."""

    @pytest.fixture
    def subject(self, wrapped: Place) -> Subject:
        """The backend under test."""
        return _subject(wrapped)


async def _first_line(place: Place, instance_id: InstanceId) -> str:
    """Wait until it runs and has written a line."""
    await until(place.backend, instance_id, Phase.RUNNING, patience=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        async for line in place.backend.logs(instance_id, follow=True, tail=None):
            return line.text
    raise AssertionError("it ended without writing a line")


async def _until_true(check: Callable[[], Awaitable[bool]]) -> None:
    """Look every 20 ms, for as long as PATIENCE."""
    async with asyncio.timeout(PATIENCE):
        while not await check():  # noqa: ASYNC110  (what happens in another process sends no event)
            await asyncio.sleep(0.02)


async def _environ(place: Place, instance_id: InstanceId) -> dict[str, str]:
    content: dict[str, str] = json.loads(await _first_line(place, instance_id))
    return content


async def test_echo_becomes_healthy_and_ends_politely(place: Place) -> None:
    """The echo sample answers its health check soon, and ends on SIGTERM long before its grace is over."""
    request = a_request("echo")
    await place.backend.launch(request)
    running = await until(place.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    assert running.address is not None
    address = running.address

    async def healthy() -> bool:
        return await probe(Health(uri="/health"), address) is None

    await _until_true(healthy)
    await place.backend.terminate(request.instance_id, grace=30)
    await until(place.backend, request.instance_id, Phase.ABSENT, patience=5)


async def test_variables_follow_their_order_of_precedence(place: Place) -> None:
    """The image's variables give way to the user's, and those to the platform's; nothing of ours leaks."""
    top = '[environment]\nA = "image"\nB = "image"'
    image = place.image("environ", ENVIRON, top=top)
    own = (("B", "user"), ("NVCF_REGION", "user"), ("PORT", "1"))
    request = a_request(image, environment=own, function_name="f")
    await place.backend.launch(request)
    environ = await _environ(place, request.instance_id)
    observed = await seen(place.backend, request.instance_id)

    assert observed.address is not None
    assert (environ["A"], environ["B"], environ["NVCF_REGION"]) == ("image", "user", "local")
    assert environ["NVCF_FUNCTION_NAME"] == "f"
    assert environ["PORT"] == environ["HEALTH_PORT"] == str(observed.address.port)
    assert environ["HOME"].startswith(str(place.data.resolve()))
    assert environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "PYTEST_CURRENT_TEST" not in environ


async def test_arguments_replace_the_defaults_and_ports_are_filled_in(place: Place) -> None:
    """containerArgs is split as a shell would; {port} and {health_port} become the allocated ports."""
    image = place.image("args", "import sys, json, time; print(json.dumps(sys.argv[1:]), flush=True); time.sleep(60)")
    request = a_request(image, args="--name 'a b' --port={port} {health_port}", health_port=9000)
    await place.backend.launch(request)
    line = await _first_line(place, request.instance_id)
    address = (await seen(place.backend, request.instance_id)).address

    assert address is not None
    assert address.port != address.health_port
    assert json.loads(line) == ["--name", "a b", f"--port={address.port}", str(address.health_port)]


async def test_unbalanced_arguments_are_a_permanent_failure(place: Place) -> None:
    """containerArgs that no shell could split end the instance, naming the field."""
    request = a_request("echo", args="'oops")
    await place.backend.launch(request)
    exited = await until(place.backend, request.instance_id, Phase.EXITED, patience=PATIENCE)

    assert exited.failure is not None
    assert exited.failure.permanent
    assert "containerArgs" in exited.failure.message


async def test_command_that_does_not_exist_is_a_permanent_start_failure(place: Place) -> None:
    """The failure names the program and where to correct it."""
    source = place.data.parent / "source"
    source.mkdir()
    (source / "function.toml").write_text('name = "nothing"\ncommand = ["no-such-program"]\n')
    place.catalog.add(source)
    request = a_request("nothing")
    await place.backend.launch(request)
    exited = await until(place.backend, request.instance_id, Phase.EXITED, patience=PATIENCE)

    assert exited.failure is not None
    assert (exited.failure.kind, exited.failure.permanent) == (FailureKind.START, True)
    assert "no-such-program" in exited.failure.message


async def test_broken_description_is_a_permanent_image_failure(place: Place) -> None:
    """An image whose function.toml went bad fails with the parser's words, and is still ours to provide."""
    image = place.catalog.find(place.image("bad", ""))
    assert image is not None
    (image.directory / "function.toml").write_text('name = "bad"\ncommand = "one string"\n')
    request = a_request("bad")
    assert await place.backend.provides("bad")
    await place.backend.launch(request)
    exited = await until(place.backend, request.instance_id, Phase.EXITED, patience=PATIENCE)

    assert exited.failure is not None
    assert (exited.failure.kind, exited.failure.permanent) == (FailureKind.IMAGE, True)
    assert "function.toml: command" in exited.failure.message


async def test_real_gpus_are_handed_out_once(place: Place) -> None:
    """Two instances share four devices without overlap; a third is refused for capacity; an ended one frees its own."""
    image = place.image("gpus", ENVIRON)
    requests = [a_request(image, gpu="H100", gpu_count=n) for n in (2, 2, 1)]
    for request in requests:
        await place.backend.launch(request)
    first, second = [(await _environ(place, r.instance_id))["CUDA_VISIBLE_DEVICES"] for r in requests[:2]]
    refused = await until(place.backend, requests[2].instance_id, Phase.EXITED, patience=PATIENCE)

    assert {first, second} == {"0,1", "2,3"}
    assert refused.failure is not None
    assert refused.failure.kind is FailureKind.CAPACITY
    assert "needs 1 H100, 0 of 4 free" in refused.failure.message
    await place.backend.terminate(requests[0].instance_id, grace=1)
    await until(place.backend, requests[0].instance_id, Phase.ABSENT, patience=PATIENCE)
    again = a_request(image, gpu="H100", gpu_count=1)
    await place.backend.launch(again)
    assert (await _environ(place, again.instance_id))["CUDA_VISIBLE_DEVICES"] == first.split(",")[0]


async def test_stubborn_process_and_its_children_are_killed_after_the_grace(place: Place) -> None:
    """A process that ignores SIGTERM, with a child in a session and environment of its own, is killed with it."""
    image = place.image(
        "stubborn",
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '300'], env={}, start_new_session=True)\n"
        "print(child.pid, flush=True)\ntime.sleep(300)\n",
    )
    request = a_request(image)
    await place.backend.launch(request)
    child = psutil.Process(int(await _first_line(place, request.instance_id)))
    await place.backend.terminate(request.instance_id, grace=0.3)
    await until(place.backend, request.instance_id, Phase.ABSENT, patience=PATIENCE)

    assert process_tree.gone(child)


async def test_log_is_bounded(place: Place) -> None:
    """An instance that writes without end keeps the newer half of its log, in whole lines."""
    image = place.image(
        "chatty",
        "import time\nfor n in range(6000): print(f'line {n:05d} ' + 'x' * 40)\nprint('done')\ntime.sleep(60)\n",
    )
    request = a_request(image)
    await place.backend.launch(request)
    await until(place.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    path = place.data / "logs" / f"{request.instance_id}.log"

    async def written_and_cut() -> bool:
        last = await lines(place.backend, request.instance_id, tail=1)
        return last == ["done"] and path.stat().st_size <= 64 * 1024

    await _until_true(written_and_cut)
    kept = await lines(place.backend, request.instance_id)

    assert len(kept) > 100
    assert kept[-1] == "done"
    assert all(len(line) == 51 for line in kept[:-1])


async def test_files_are_private(place: Place) -> None:
    """Record, log and directories are for their owner alone: they hold the user's variables."""
    request = a_request("echo", environment=(("TOKEN", "secret"),))
    await place.backend.launch(request)
    await until(place.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    own = place.data / "instances" / request.instance_id
    files = [own / "launch.json", place.data / "logs" / f"{request.instance_id}.log"]
    directories = [own, own / "inf", own / "inf" / "response", own / "tmp", place.data / "instances"]

    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 2
    assert [stat.S_IMODE(path.stat().st_mode) for path in directories] == [0o700] * 5


async def test_bubblewrap_gives_private_directories(wrapped: Place) -> None:
    """In bubblewrap /var/inf and /tmp are the instance's own, and the address says /var/inf."""
    image = wrapped.image(
        "writer",
        "import time\nopen('/var/inf/response/a', 'w').write('x'); open('/tmp/b', 'w').write('x')\n"
        "print('done', flush=True); time.sleep(60)\n",
    )
    request = a_request(image)
    await wrapped.backend.launch(request)
    running = await until(wrapped.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    await _first_line(wrapped, request.instance_id)
    own = wrapped.data / "instances" / request.instance_id

    assert running.address is not None
    assert running.address.shared_dir == "/var/inf"
    assert await lines(wrapped.backend, request.instance_id) == ["done"]
    assert (own / "inf/response/a").read_text() == "x"
    assert (own / "tmp/b").is_file()


CHILD = """
import asyncio, sys
from pathlib import Path
from contract import a_request
from gpufn.compute import process, process_spawn
from gpufn.compute.catalog import Catalog
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

async def main(data, instance_id, crash):
    if crash == "before-spawn":
        process_spawn.spawn = lambda *a, **k: hang()
    if crash == "after-spawn":
        process.ProcessBackend._note = lambda self, record: hang()
    async with Supervisor() as tasks:
        backend = process.ProcessBackend(
            ProcessSettings(isolation="none", warm=0), data=data, catalog=Catalog(data / "images"), supervisor=tasks
        )
        await backend.open()
        await backend.launch(a_request("echo", instance_id=instance_id))
        while not [o for o in (await backend.observe([instance_id])).values() if o.address]:
            await asyncio.sleep(0.01)
        hang()

def hang():
    import time
    print("here", flush=True)
    time.sleep(60)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""


@pytest.mark.parametrize("crash", ["running", "before-spawn", "after-spawn"])
async def test_killed_at_any_step_loses_and_leaks_nothing(place: Place, crash: str) -> None:
    """A gpufn killed with SIGKILL around the start of a process leaves one instance that the next one runs and ends."""
    await place.backend.close(terminate=False)
    request = a_request("echo")
    child = subprocess.Popen(  # noqa: ASYNC220  (a few milliseconds, in a test)
        [sys.executable, "-c", CHILD, str(place.data), request.instance_id, crash],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == b"here\n"
    child.send_signal(signal.SIGKILL)
    await asyncio.to_thread(child.wait)
    child.stdout.close()
    left = process_tree.by_instance(place.backend.installation).get(request.instance_id, [])
    backend = await place.reopen()
    running = await until(backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)

    assert running.address is not None
    assert len(left) == (0 if crash == "before-spawn" else 1)
    if left:
        assert int(left[0].environ["PORT"]) == running.address.port
    assert len(process_tree.by_instance(place.backend.installation)[request.instance_id]) == 1
    await backend.terminate(request.instance_id, grace=2)
    await until(backend, request.instance_id, Phase.ABSENT, patience=PATIENCE)
    assert process_tree.by_instance(place.backend.installation) == {}


async def test_processes_without_a_record_are_listed_and_can_be_ended(place: Place) -> None:
    """Should the record be lost, the mark still tells that the process is ours, and where it listens."""
    request = a_request("echo")
    await place.backend.launch(request)
    before = await until(place.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    await place.backend.close(terminate=False)
    (place.data / "instances" / request.instance_id / "launch.json").unlink()
    backend = await place.reopen()
    after = await seen(backend, request.instance_id)

    assert request.instance_id in await backend.list()
    assert after.address is not None
    assert before.address is not None
    assert after.address.port == before.address.port
    await backend.terminate(request.instance_id, grace=2)
    await until(backend, request.instance_id, Phase.ABSENT, patience=PATIENCE)


async def test_stop_that_was_interrupted_is_finished(place: Place) -> None:
    """A gpufn that is gone while an instance stops leaves the wish behind, and the next one fulfils it."""
    image = place.image(
        "deaf",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(99)\n",
    )
    request = a_request(image)
    await place.backend.launch(request)
    await _first_line(place, request.instance_id)
    await place.backend.terminate(request.instance_id, grace=1)
    backend = await place.reopen()

    await until(backend, request.instance_id, Phase.ABSENT, patience=PATIENCE)


async def test_end_while_nobody_watched_says_so(place: Place) -> None:
    """An instance that ended while gpufn was away is EXITED, with an unknown exit code."""
    request = a_request("echo")
    await place.backend.launch(request)
    await until(place.backend, request.instance_id, Phase.RUNNING, patience=PATIENCE)
    await place.backend.close(terminate=False)
    [left] = process_tree.by_instance(place.backend.installation)[request.instance_id]
    left.process.kill()
    await asyncio.to_thread(os.waitpid, left.process.pid, 0)
    exited = await seen(await place.reopen(), request.instance_id)

    assert exited.phase is Phase.EXITED
    assert exited.failure is not None
    assert "unknown" in exited.failure.message


async def test_unusable_requirements_fail_with_pips_words(place: Place) -> None:
    """Requirements that pip cannot read end the instance with an image failure that repeats pip's last lines."""
    source = place.data.parent / "needy"
    source.mkdir()
    (source / "requirements.txt").write_text("this is not a requirement\n")
    (source / "function.toml").write_text(
        'name = "needy"\ncommand = ["{python}", "-V"]\nrequirements = "requirements.txt"\n'
    )
    place.catalog.add(source)
    request = a_request("needy")
    await place.backend.launch(request)
    exited = await until(place.backend, request.instance_id, Phase.EXITED, patience=50)

    assert exited.failure is not None
    assert exited.failure.kind is FailureKind.IMAGE
    assert "Invalid requirement" in exited.failure.message


async def test_data_directory_that_cannot_be_used_is_a_backend_error(tmp_path: Path) -> None:
    """Opening below a file raises BackendError, naming the place."""
    (tmp_path / "file").write_text("")
    async with Supervisor() as supervisor:
        backend = ProcessBackend(
            ProcessSettings(isolation="none", warm=0),
            data=tmp_path / "file" / "data",
            catalog=Catalog(tmp_path / "images"),
            supervisor=supervisor,
        )
        with pytest.raises(BackendError, match="file/data cannot be used"):
            await backend.open()

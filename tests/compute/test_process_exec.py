"""Commands beside a process: variables, directory, isolation, time, size, and nothing left running."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from contract import a_request, until

from gpufn.compute import process_tree
from gpufn.compute.backend import EXEC_OUTPUT_MAX, Phase
from gpufn.compute.catalog import Catalog
from gpufn.compute.process import ProcessBackend
from gpufn.compute.process_exec import run
from gpufn.compute.process_spawn import bubblewrap_works
from gpufn.model.ids import InstanceId, new_id
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

CODE = "import time\nopen('/tmp/there', 'w').write('x')\nprint('up', flush=True)\ntime.sleep(600)\n"


@pytest.fixture(params=["none", "bubblewrap"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProcessBackend]:
    """A backend with one image that runs."""
    if request.param == "bubblewrap" and not bubblewrap_works():
        pytest.skip("bwrap does not work here")
    source = tmp_path / "source"
    source.mkdir()
    (source / "app.py").write_text(CODE if request.param == "bubblewrap" else CODE.replace("/tmp/there", "there"))
    (source / "function.toml").write_text('name = "sleeper"\ncommand = ["{python}", "app.py"]\n')
    data = tmp_path / "data"
    catalog = Catalog(data / "images")
    catalog.add(source)
    async with Supervisor() as tasks:
        found = ProcessBackend(
            ProcessSettings(isolation=str(request.param), warm=0), data=data, catalog=catalog, supervisor=tasks
        )
        await found.open()
        yield found
        await found.close(terminate=True)
        assert process_tree.by_instance(found.installation) == {}


async def running(backend: ProcessBackend) -> InstanceId:
    request = a_request("sleeper", environment=(("COLOUR", "blue"),))
    await backend.launch(request)
    await until(backend, request.instance_id, Phase.RUNNING, patience=30)
    async for _ in backend.logs(request.instance_id, follow=True, tail=None):
        break
    return request.instance_id


async def test_a_command_finds_what_the_instance_finds(backend: ProcessBackend) -> None:
    """Its variables, its directory and, isolated, its own /tmp; both streams; and the exit code."""
    instance = await running(backend)
    there = "/tmp/there" if backend._isolation.wraps else "there"
    done = await backend.exec(
        instance, ["/bin/sh", "-c", f"echo $COLOUR; echo ill >&2; cat app.py | wc -l; cat {there}; exit 3"], seconds=20
    )

    assert done is not None
    assert done.code == 3
    assert sorted(done.output.split()) == sorted(["blue", "ill", "4", "x"])


async def test_what_takes_too_long_is_killed(backend: ProcessBackend) -> None:
    """Time over: no code, what was written until then, and no process left; the instance goes on."""
    instance = await running(backend)
    before = len(process_tree.by_instance(backend.installation)[instance])
    done = await backend.exec(instance, ["/bin/sh", "-c", "echo begun; sleep 100"], seconds=1)

    assert len(process_tree.by_instance(backend.installation)[instance]) == before
    assert done is not None
    assert (done.output, done.code) == ("begun\n", None)


async def test_nothing_runs_where_no_instance_does(backend: ProcessBackend) -> None:
    """An id that is unknown, or that has ended, is None."""
    instance = await running(backend)
    await backend.terminate(instance, grace=0.1)
    await until(backend, instance, Phase.ABSENT, patience=30)

    assert await backend.exec(instance, ["true"], seconds=5) is None
    assert await backend.exec(InstanceId(new_id()), ["true"], seconds=5) is None


async def test_a_command_does_not_look_like_an_instance(tmp_path: Path) -> None:
    """While a command runs it carries the instance's mark, but is not taken for its first process."""
    mark = {process_tree.INSTALLATION: "test-exec", process_tree.INSTANCE: "i"}
    waiting = asyncio.get_running_loop().create_task(
        run([sys.executable, "-c", "import time; time.sleep(60)"], environment=mark, cwd=tmp_path, seconds=60)
    )
    found: list[process_tree.Marked] = []
    async with asyncio.timeout(20):
        while not found:
            found = process_tree.by_instance("test-exec").get(InstanceId("i"), [])
            await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert [each.leads for each in found] == [False]
    gone, alive = psutil.wait_procs([each.process for each in found], timeout=10)
    assert (len(gone), alive) == (1, [])


async def test_output_is_bounded_and_programs_may_be_missing(tmp_path: Path) -> None:
    """The beginning of a long output is kept; a missing program is 127 as in a shell, another one 126."""
    here = {"PATH": "/usr/bin:/bin"}
    script = f"head -c {EXEC_OUTPUT_MAX * 3} /dev/zero | tr '\\0' x"
    long = await run(["/bin/sh", "-c", script], environment=here, cwd=tmp_path, seconds=30)
    missing = await run(["/no/such"], environment=here, cwd=tmp_path, seconds=5)
    (tmp_path / "plain").write_text("x")
    plain = await run([str(tmp_path / "plain")], environment=here, cwd=tmp_path, seconds=5)
    held = await run(["/bin/sh", "-c", "sleep 50 & echo done"], environment=here, cwd=tmp_path, seconds=30)

    assert (len(long.output), long.truncated, long.code) == (EXEC_OUTPUT_MAX, True, 0)
    assert (missing.code, plain.code) == (127, 126)
    assert (held.output, held.code) == ("done\n", 0)

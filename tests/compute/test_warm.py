"""Interpreters that wait to become somebody's program."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from contract import BackendContract, Subject, a_request, lines, until

from gpufn.compute import process_record, process_tree
from gpufn.compute.backend import Phase
from gpufn.compute.catalog import Catalog
from gpufn.compute.isolation import Isolation
from gpufn.compute.process import ProcessBackend
from gpufn.compute.process_record import Record, Stage
from gpufn.compute.process_spawn import LANG, Directories, bubblewrap_works
from gpufn.compute.warm import ROOM, Order, WarmPool, fits
from gpufn.model.ids import InstanceId, new_id
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

PROGRAM = """
import os, pathlib, sys, beside
print(__name__, sys.argv, beside.VALUE, sorted(os.environ), os.environ["WORD"], os.getcwd() == sys.path[0])
secret = pathlib.Path(os.environ["SECRETS"], "s").read_text()
pathlib.Path(os.environ["SHARED"], "inputAssets", "made").write_text(secret)
sys.exit(7)
"""
ENVIRON = "import os, json, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(60)"
HOLDER = """
import asyncio, sys
from pathlib import Path
from gpufn.compute.catalog import Catalog
from gpufn.compute.process import ProcessBackend
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import ProcessSettings

async def main(data):
    async with Supervisor() as tasks:
        settings = ProcessSettings(isolation="none", warm=2)
        backend = ProcessBackend(settings, data=data, catalog=Catalog(data / "images"), supervisor=tasks)
        await backend.open()
        while backend._pool.ready() < 2:
            await asyncio.sleep(0.02)
        print(*(warm.pid for warm in backend._pool.waiting), flush=True)
        await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


def an_order(directory: Path, **environment: str) -> Order:
    """A program that tells what it is, beside a module of its own."""
    directory.mkdir(exist_ok=True)
    (directory / "app.py").write_text(PROGRAM)
    (directory / "beside.py").write_text("VALUE = 42")
    variables = {
        "LANG": LANG,
        "PYTHONUNBUFFERED": "1",
        "WORD": "hello",
        process_tree.INSTANCE: new_id(),
        "PORT": "8001",
        "HEALTH_PORT": "8002",
    }
    return Order((sys.executable, "app.py", "--one", "two"), variables | environment, directory)


def _needs(isolation: str) -> None:
    if isolation == "bubblewrap" and not bubblewrap_works():
        pytest.skip("bwrap is not installed, or may not make namespaces here")


async def _filled(pool: WarmPool, size: int) -> None:
    async with asyncio.timeout(30):
        while pool.ready() != size:  # noqa: ASYNC110  (there is no event to wait for)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def a_pool(tmp_path: Path, isolation: str = "none", size: int = 1) -> AsyncIterator[WarmPool]:
    """A pool, with its first interpreters ready."""
    chosen = Isolation(isolation, tmp_path)
    await chosen.open()
    pool = WarmPool(tmp_path / "warm", size=size, installation="test" + new_id(), isolation=chosen)
    async with Supervisor() as tasks:
        task = tasks.start(pool.run(), name="warm")
        await _filled(pool, size)
        yield pool
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def a_backend(data: Path, isolation: str = "none") -> AsyncIterator[ProcessBackend]:
    """A backend with one waiting interpreter, and an image that prints its variables."""
    _needs(isolation)
    catalog = Catalog(data / "images")
    if catalog.find("tells") is None:
        source = data.parent / "source"
        source.mkdir()
        (source / "app.py").write_text(ENVIRON)
        (source / "function.toml").write_text('name = "tells"\ncommand = ["{python}", "app.py"]\n')
        catalog.add(source)
    async with Supervisor() as tasks:
        backend = ProcessBackend(
            ProcessSettings(isolation=isolation, warm=1), data=data, catalog=catalog, supervisor=tasks
        )
        await backend.open()
        await _filled(backend._pool, 1)
        try:
            yield backend
        finally:
            await backend.close(terminate=False)


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
async def test_it_becomes_the_program(tmp_path: Path, isolation: str) -> None:
    """It has the program's arguments, variables, directories, secrets, output, exit code and neighbours."""
    _needs(isolation)
    directories = Directories(tmp_path / "instance")
    directories.create()
    (directories.secrets / "s").write_text("secret")
    inside = isolation == "bubblewrap"
    order = an_order(
        tmp_path / "app",
        SHARED="/var/inf" if inside else str(directories.inf),
        SECRETS="/var/secrets" if inside else str(directories.secrets),
    )
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with a_pool(tmp_path, isolation) as pool:
        warm = pool.take(order)
        assert warm is not None
        assert warm.be(order, log=log, directories=directories)
        _, status = await asyncio.to_thread(os.waitpid, warm.pid, 0)
    os.close(log)

    said = (tmp_path / "log").read_text()
    assert os.waitstatus_to_exitcode(status) == 7
    assert said.startswith("__main__ ['app.py', '--one', 'two'] 42")
    variables = {*order.environment, "PWD"} if inside else {*order.environment}  # bubblewrap's own
    assert said.endswith(f"{sorted(variables)} hello True\n")
    assert (directories.inf / "inputAssets" / "made").read_text() == "secret"


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
async def test_everybody_sees_what_it_became(tmp_path: Path, isolation: str) -> None:
    """The kernel shows the instance's variables; a command beside it finds those, not the pool's."""
    async with a_backend(tmp_path / "data", isolation) as backend:
        waiting = backend._pool.waiting[0].pid
        assert await backend.list() == []
        request = a_request("tells", environment=(("COLOUR", "blue"),))
        await backend.launch(request)
        await until(backend, request.instance_id, Phase.RUNNING, patience=30)
        async for _ in backend.logs(request.instance_id, follow=True, tail=None):
            break
        own = json.loads((await lines(backend, request.instance_id))[0])
        shown = process_tree.by_instance(backend.installation)[request.instance_id]
        done = await backend.exec(
            request.instance_id, [sys.executable, "-c", ENVIRON.partition("; time.")[0]], seconds=20
        )
        (tree,) = process_record.read_all(tmp_path / "data" / "instances")
        await backend.close(terminate=True)

    assert tree.pid == waiting
    assert done is not None
    beside = json.loads(done.output)
    assert [own.get(name) for name in ("COLOUR", "GPUFN_ROOM")] == ["blue", None]
    assert beside == own | {process_tree.COMMAND: "1"}
    (one,) = [each for each in shown if each.process.pid == waiting or isolation == "bubblewrap"]
    assert dict(one.environ) == own


async def test_it_outlives_its_master(tmp_path: Path) -> None:
    """A gpufn that opens after another finds the instance that an interpreter of the other became, and no other one."""
    async with a_backend(tmp_path / "data") as first:
        request = a_request("tells")
        await first.launch(request)
        before = await until(first, request.instance_id, Phase.RUNNING, patience=30)
    async with a_backend(tmp_path / "data") as second:
        after = await until(second, request.instance_id, Phase.RUNNING, patience=30)
        listed = await second.list()
        (record,) = process_record.read_all(tmp_path / "data" / "instances")
        (tmp_path / "data" / "instances" / request.instance_id / process_record.FILE).unlink()
    async with a_backend(tmp_path / "data") as third:
        found = await until(third, request.instance_id, Phase.RUNNING, patience=30)
        await third.close(terminate=True)
        assert process_tree.by_instance(third.installation) == {}

    assert (before.address, listed) == (after.address, [request.instance_id])
    assert found.address is not None
    assert record.address.port == found.address.port
    assert not psutil.pid_exists(record.pid)


async def test_one_that_has_ended_is_not_taken(tmp_path: Path) -> None:
    """An interpreter that is killed while it waits is replaced; a launch meanwhile starts a new process."""
    async with a_backend(tmp_path / "data") as backend:
        killed = backend._pool.waiting[0]
        os.kill(killed.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        request = a_request("tells")
        await backend.launch(request)
        await until(backend, request.instance_id, Phase.RUNNING, patience=30)
        (record,) = process_record.read_all(tmp_path / "data" / "instances")
        async for _ in backend.logs(request.instance_id, follow=True, tail=None):
            break
        assert record.pid != killed.pid
        await _filled(backend._pool, 1)
        await backend.close(terminate=True)


@pytest.mark.parametrize("stopped", [False, True])
async def test_none_outlives_a_killed_master(tmp_path: Path, *, stopped: bool) -> None:
    """SIGKILL of gpufn ends those that wait; one that cannot notice is ended by the next gpufn."""
    data = tmp_path / "data"
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(data), stdout=subprocess.PIPE)
    assert holder.stdout is not None
    waiting = [psutil.Process(int(pid)) for pid in (await holder.stdout.readline()).split()]
    if stopped:
        waiting[0].suspend()
    holder.kill()
    await holder.wait()
    expected = waiting[1:] if stopped else waiting
    _, alive = await asyncio.to_thread(psutil.wait_procs, expected, 20)
    assert (len(waiting), alive) == (2, [])

    async with a_backend(data):
        assert all(process_tree.gone(each) for each in waiting)


async def test_the_pool_leaves_nothing(tmp_path: Path) -> None:
    """When it ends, those that wait end, and their directories go."""
    async with a_pool(tmp_path, size=2) as pool:
        waiting = [each.pid for each in pool.waiting]
        assert len(waiting) == 2
    assert not any(psutil.pid_exists(pid) for pid in waiting)
    assert not (tmp_path / "warm").exists()


async def test_no_pool_when_it_is_off(tmp_path: Path) -> None:
    """``process.warm`` 0 starts none."""
    chosen = Isolation("none", tmp_path)
    pool = WarmPool(tmp_path / "warm", size=0, installation="test", isolation=chosen)
    await pool.run()

    assert (pool.waiting, pool.take(an_order(tmp_path / "app"))) == ([], None)


def test_what_does_not_fit(tmp_path: Path) -> None:
    """Another interpreter, variables that must be there from the start or are too long, and shadowed modules."""
    order = an_order(tmp_path / "app")
    seen = [tmp_path]
    loaded = frozenset({"json", "http"})

    def does(other: Order) -> bool:
        return fits(other, visible=seen, loaded=loaded)

    assert does(order)
    assert not does(replace(order, arguments=("/usr/bin/python3", "app.py")))
    assert not does(replace(order, arguments=(sys.executable, "-m", "app")))
    for name in ("PYTHONPATH", "LD_PRELOAD", "OPENSSL_CONF"):
        assert not does(replace(order, environment={**order.environment, name: "1"}))
    assert not does(replace(order, environment={**order.environment, "LANG": "C"}))
    assert not does(replace(order, environment={**order.environment, "LONG": "x" * ROOM}))
    (tmp_path / "app" / "json.py").write_text("")
    assert not does(order)


def test_records_keep_what_is_needed_beside_an_instance() -> None:
    """The variables and the directory of an instance survive a restart of gpufn."""
    record = Record(InstanceId(new_id()), Stage.RUNNING, environment=(("A", "b"),), directory="/x", started=3.0)

    assert process_record.parse(process_record.dump(record)) == record


class TestContractFromThePool(BackendContract):
    """The contract, with an interpreter that waits."""

    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[Subject]:
        """The backend under test."""
        async with a_backend(tmp_path / "data", "auto") as backend:
            source = tmp_path / "exits"
            source.mkdir()
            (source / "app.py").write_text("import sys; print('goodbye'); sys.exit(3)")
            (source / "function.toml").write_text('name = "exits"\ncommand = ["{python}", "app.py"]\n')
            exits = backend._catalog.add(source).name

            async def reopen() -> ProcessBackend:
                await backend.close(terminate=False)
                backend.__init__(  # type: ignore[misc]
                    backend._settings, data=backend._data, catalog=backend._catalog, supervisor=backend._supervisor
                )
                await backend.open()
                return backend

            yield Subject(backend, "echo", exits, "nobody-has/this:1.0", reopen)
            for instance_id in await backend.list():
                await backend.terminate(instance_id, grace=0.5)
            await backend.close(terminate=True)
            assert process_tree.by_instance(backend.installation) == {}

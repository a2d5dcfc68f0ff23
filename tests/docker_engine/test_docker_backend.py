"""The Docker backend against a real engine. Where none answers these tests skip; see scripts/docker-for-tests."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker_images import PASSWORD, USER, EngineClient, compile_echo, private_registry

from gpufn.compute.backend import BackendError, LaunchRequest, Observation, Phase
from gpufn.compute.docker import DockerBackend, this_machine
from gpufn.compute.docker.sockets import missing
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.instance import FailureKind
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import DockerSettings

SOCKET = "/var/run/docker.sock"
LOCAL = "gpufn-tests/echo:1"
BROKEN = "gpufn-tests/broken:1"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(missing(SOCKET)), reason=f"{SOCKET}: {missing(SOCKET)}; run scripts/docker-for-tests"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed; run scripts/docker-for-tests"),
]


@dataclass
class World:
    """The engine with the test images."""

    engine: EngineClient
    binary: bytes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    engine = EngineClient(SOCKET)
    binary = compile_echo(tmp_path_factory.mktemp("echo"))
    engine.build(LOCAL, binary)
    engine.build(BROKEN, b"no program")
    yield World(engine, binary)
    for image in (LOCAL, BROKEN):
        engine.remove_image(image)
    engine.close()


@pytest.fixture
def installation(world: World) -> Iterator[str]:
    name = f"test-{new_id()}"
    yield name
    world.engine.remove_installation(name)


@asynccontextmanager
async def a_backend(installation: str, data: Path, **settings: Any) -> AsyncIterator[DockerBackend]:
    """An open backend; its containers outlive it."""
    async with Supervisor() as supervisor:
        chosen = DockerSettings(socket=SOCKET, **settings)
        site = this_machine(chosen, installation=installation, data=data)
        backend = DockerBackend(chosen, site, supervisor=supervisor, data=data)
        await backend.open()
        try:
            yield backend
        finally:
            await backend.close(terminate=False)


def a_request(**changes: Any) -> LaunchRequest:
    request = LaunchRequest(
        instance_id=InstanceId(new_id()),
        nca_id="nvcf-default",
        function_id="f",
        version_id="v",
        function_name="echo",
        image=LOCAL,
        args=None,
        environment=(("GREETING", "hello"), ("NVCF_REGION", "mine")),
        inference_port=8000,
        health_port=8000,
        gpu="CPU",
        gpu_count=0,
        emulated=False,
        instance_type="ON-PREM.CPU_1x",
        instance_type_value="ON-PREM.CPU",
        backend="local",
        region="here",
    )
    return replace(request, **changes)


async def until(backend: DockerBackend, instance_id: InstanceId, *phases: Phase) -> Observation:
    """Look until one of ``phases`` is seen, at most 20 s."""
    async with asyncio.timeout(20):
        while True:
            seen = (await backend.observe([instance_id]))[instance_id]
            if seen.phase in phases:
                return seen
            await asyncio.sleep(0.05)  # a real engine: there is nothing else to wait on


async def running(backend: DockerBackend, request: LaunchRequest) -> Observation:
    await backend.launch(request)
    seen = await until(backend, request.instance_id, Phase.RUNNING, Phase.EXITED)
    assert seen.phase is Phase.RUNNING, seen
    return seen


async def ask(seen: Observation, path: str, *, health: bool = False) -> str:
    """GET from a running instance, which may need a moment until it listens."""
    assert seen.address is not None
    port = seen.address.health_port if health else seen.address.port
    async with httpx.AsyncClient(base_url=f"http://{seen.address.host}:{port}", trust_env=False) as client:
        for _ in range(100):
            try:
                return (await client.get(path)).text
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError("it never listened")


async def test_a_container_gets_its_environment_and_loses_its_privileges(
    world: World, installation: str, tmp_path: Path
) -> None:
    """A launched container is reachable, has the platform's variables, few capabilities, and may write /var/inf."""
    request = a_request()
    async with a_backend(installation, tmp_path, memory="64m", pids=64, cpus=0.5) as backend:
        seen = await running(backend, request)
        environment = (await ask(seen, "/env")).splitlines()
        assert "GREETING=hello" in environment
        assert [line for line in environment if line.startswith("NVCF_REGION=")] == ["NVCF_REGION=here"]
        status = await ask(seen, "/status")
        assert "CapEff:\t0000000000000400" in status  # NET_BIND_SERVICE alone
        assert "NoNewPrivs:\t1" in status
        assert (await ask(seen, "/write")).strip() == "written"
        assert (tmp_path / "instances" / request.instance_id / "inf" / "from-instance").read_text() == "hello"
        host: Any = world.engine.inspect(f"gpufn-{request.instance_id}")["HostConfig"]
        assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (64 * 1024**2, 64, 500_000_000)


async def test_arguments_replace_the_images_own_and_health_may_have_its_port(installation: str, tmp_path: Path) -> None:
    """containerArgs are split as a shell would, and a second port is published when health uses one."""
    request = a_request(args="9000 9001 'two words'", inference_port=9000, health_port=9001)
    async with a_backend(installation, tmp_path) as backend:
        seen = await running(backend, request)
        assert (await ask(seen, "/args")).splitlines() == ["9000", "9001", "two words"]
        assert (await ask(seen, "/args", health=True)).splitlines()[0] == "9000"


async def test_two_launches_are_one_container(installation: str, tmp_path: Path) -> None:
    """Launching again, at once or later, changes nothing."""
    request = a_request()
    async with a_backend(installation, tmp_path) as backend:
        await asyncio.gather(backend.launch(request), backend.launch(request))
        first = await running(backend, request)
        assert await running(backend, request) == first
        assert await backend.list() == [request.instance_id]


async def test_containers_survive_us_and_are_found_again(installation: str, tmp_path: Path) -> None:
    """A later backend of the installation sees what runs; one of another installation does not."""
    request = a_request()
    async with a_backend(installation, tmp_path) as backend:
        before = await running(backend, request)
    async with a_backend(installation, tmp_path) as later, a_backend("another", tmp_path) as other:
        assert (await later.observe([request.instance_id]))[request.instance_id] == before
        assert request.instance_id not in await other.list()
        await later.close(terminate=True)
    async with a_backend(installation, tmp_path) as last:
        assert await last.list() == []


async def test_terminate_keeps_the_logs_until_forget(installation: str, tmp_path: Path) -> None:
    """After terminate the container is gone and its last lines are still served; after forget nothing is left."""
    request = a_request()
    async with a_backend(installation, tmp_path) as backend:
        seen = await running(backend, request)
        await ask(seen, "/log?30")
        follower = asyncio.get_running_loop().create_task(_lines(backend, request.instance_id, follow=True, tail=2))
        assert (await _lines(backend, request.instance_id, follow=False, tail=2)) == ["line 28", "line 29"]
        await backend.terminate(request.instance_id, grace=5)
        await backend.terminate(request.instance_id, grace=5)
        await until(backend, request.instance_id, Phase.ABSENT)
        assert (await asyncio.wait_for(follower, 10))[-1] == "line 29"
        kept = await _lines(backend, request.instance_id, follow=True, tail=None)
        assert kept[0] == "listening on 8000"
        assert len(kept) == 31
        await backend.forget(request.instance_id)
        assert await _lines(backend, request.instance_id, follow=False, tail=None) == []
        assert _files(tmp_path) == []


async def test_what_ignores_the_polite_end_is_killed(installation: str, tmp_path: Path) -> None:
    """An instance that ignores SIGTERM is gone soon after its grace."""
    request = a_request(args="stubborn 8000")
    async with a_backend(installation, tmp_path) as backend:
        await ask(await running(backend, request), "/args")
        await backend.terminate(request.instance_id, grace=1)
        await until(backend, request.instance_id, Phase.ABSENT)


async def test_an_exit_is_explained(installation: str, tmp_path: Path) -> None:
    """An instance that ends by itself is EXITED, with its code and last lines, until terminate."""
    request = a_request(args="exit 7 'no weights found'")
    async with a_backend(installation, tmp_path) as backend:
        await backend.launch(request)
        seen = await until(backend, request.instance_id, Phase.EXITED)
        assert seen.failure is not None
        assert (seen.failure.kind, seen.failure.permanent) == (FailureKind.EXIT, False)
        assert "exit code 7" in seen.failure.message
        assert "no weights found" in seen.failure.message
        await backend.terminate(request.instance_id, grace=1)
        await until(backend, request.instance_id, Phase.ABSENT)


@pytest.mark.parametrize(
    ("changes", "kind", "permanent", "says"),
    [
        ({"image": BROKEN}, FailureKind.START, True, "command cannot be run"),
        ({"args": "'open"}, FailureKind.START, True, "close the quote"),
        ({"image": "No Such"}, FailureKind.IMAGE, True, "not an image reference"),
        ({"image": "127.0.0.1:9/x:1"}, FailureKind.IMAGE, False, "cannot be reached"),
        ({"gpu": "H100", "gpu_count": 1}, FailureKind.CAPACITY, True, "0 of 0 free"),
    ],
)
async def test_a_launch_that_cannot_succeed_says_why(
    installation: str, tmp_path: Path, changes: dict[str, Any], kind: FailureKind, permanent: bool, says: str
) -> None:
    """Each cause has its kind, and only what cannot mend itself is permanent; terminate clears it."""
    request = a_request(**changes)
    async with a_backend(installation, tmp_path) as backend:
        await backend.launch(request)
        failure = (await until(backend, request.instance_id, Phase.EXITED)).failure
        assert failure is not None
        assert (failure.kind, failure.permanent) == (kind, permanent), failure
        assert says in failure.message
        await backend.terminate(request.instance_id, grace=1)
        await until(backend, request.instance_id, Phase.ABSENT)


async def test_an_emulated_gpu_needs_no_device(installation: str, tmp_path: Path) -> None:
    """An emulated GPU reserves nothing and the container starts."""
    async with a_backend(installation, tmp_path) as backend:
        await running(backend, a_request(gpu="H100", gpu_count=1, emulated=True))


@pytest.mark.skipif(
    shutil.which("docker-registry") is None or shutil.which("htpasswd") is None,
    reason="docker-registry or htpasswd is not installed; run scripts/docker-for-tests",
)
async def test_private_images_need_credentials(world: World, installation: str, tmp_path: Path) -> None:
    """Without credentials, with wrong ones, and for a missing tag the failure is permanent and says what to do."""
    with private_registry(tmp_path) as registry:
        image = f"{registry}/team/echo:1"
        world.engine.build(image, world.binary)
        world.engine.push(image)
        world.engine.remove_image(image)
        auth_file = tmp_path / "auth.json"
        async with a_backend(installation, tmp_path / "data", auth_file=str(auth_file)) as backend:
            assert f"docker login {registry}" in await _refusal(backend, image)
            _log_in(auth_file, registry, "wrong")
            assert f"in {auth_file} are not accepted" in await _refusal(backend, image)
            _log_in(auth_file, "127.0.0.1:1", PASSWORD)
            assert "has no credentials for it" in await _refusal(backend, image)
            _log_in(auth_file, registry, PASSWORD)
            assert "manifest unknown" in await _refusal(backend, f"{registry}/team/echo:2")
            await running(backend, a_request(image=image))
            await backend.close(terminate=True)
        world.engine.remove_image(image)


async def test_a_created_container_is_started_by_the_next_process(
    world: World, installation: str, tmp_path: Path
) -> None:
    """When we die between creating and starting a container, the next open goes on."""
    request = a_request()
    labels = {"gpufn.installation": installation, "gpufn.instance": request.instance_id}
    ports = {"gpufn.inference-port": "8000", "gpufn.health-port": "8000"}
    binding: dict[str, object] = {"PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
    exposed: dict[str, object] = {"Labels": labels | ports, "ExposedPorts": {"8000/tcp": {}}}
    body: dict[str, object] = {"Image": LOCAL, "HostConfig": binding} | exposed
    world.engine.create(f"gpufn-{request.instance_id}", body)
    async with a_backend(installation, tmp_path) as backend:
        await until(backend, request.instance_id, Phase.RUNNING)


async def test_no_engine_is_a_clear_error(tmp_path: Path) -> None:
    """Where nothing answers, open raises BackendError with what was tried; available says the same."""
    async with Supervisor() as supervisor:
        settings = DockerSettings(socket=str(tmp_path / "no.sock"))
        site = this_machine(settings, installation="x", data=tmp_path)
        backend = DockerBackend(settings, site, supervisor=supervisor, data=tmp_path)
        with pytest.raises(BackendError, match=r"no\.sock \(no such file\)"):
            await backend.open()
        assert "no such file" in await backend.available()


async def _lines(backend: DockerBackend, instance_id: InstanceId, *, follow: bool, tail: int | None) -> list[str]:
    return [line.text async for line in backend.logs(instance_id, follow=follow, tail=tail)]


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def _refusal(backend: DockerBackend, image: str) -> str:
    request = a_request(image=image)
    await backend.launch(request)
    failure = (await until(backend, request.instance_id, Phase.EXITED)).failure
    assert failure is not None
    assert (failure.kind, failure.permanent) == (FailureKind.IMAGE, True), failure
    return failure.message


def _log_in(auth_file: Path, registry: str, password: str) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    auth_file.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))


async def test_a_command_is_run_in_the_container(installation: str, tmp_path: Path) -> None:
    """Its output and its code come back; a program that does not exist is 127; what has ended runs nothing."""
    request = a_request()
    async with a_backend(installation, tmp_path) as backend:
        await running(backend, request)
        done = await backend.exec(request.instance_id, ["/echo", "exit", "3", "hello"], seconds=20)
        missing = await backend.exec(request.instance_id, ["/no/such"], seconds=20)
        late = await backend.exec(request.instance_id, ["/echo", "9999"], seconds=1)
        none = await backend.exec(InstanceId(new_id()), ["/echo"], seconds=5)

    assert done is not None
    assert (done.output.strip(), done.code) == ("hello", 3)
    assert missing is not None
    assert missing.code in (126, 127)
    assert late is not None
    assert late.code is None
    assert none is None

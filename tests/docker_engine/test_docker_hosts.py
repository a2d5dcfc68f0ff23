"""Container engines of other machines: a second dockerd, reached over TLS, and files that are copied, not mounted."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from docker_images import EngineClient, compile_echo

from gpufn.compute.backend import BackendError, LaunchRequest, Observation, Phase, TaskLaunch
from gpufn.compute.docker.endpoint import TLS_FILES
from gpufn.compute.docker.sockets import missing
from gpufn.model.cluster import Cluster, ClusterKind, Connection
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.inventory import cpu, gpu
from gpufn.runtime.supervisor import Supervisor
from gpufn.server.places import Places
from gpufn.settings import DockerSettings

SOCKET = "/var/run/docker.sock"
IMAGE = "gpufn-tests/hosts:1"
BRIDGE = "gpufntest0"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(missing(SOCKET)), reason=f"{SOCKET}: {missing(SOCKET)}; run scripts/docker-for-tests"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed; run scripts/docker-for-tests"),
]
second_engine = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, ("dockerd", "ip"))), reason="a second dockerd needs root, and `ip`"
)


@dataclass(frozen=True)
class Host:
    """An engine beside this machine's own."""

    url: str
    socket: str
    tls: dict[str, str]
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_echo(tmp_path_factory.mktemp("echo"))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, binary: bytes) -> Iterator[Host]:
    """A second dockerd with its own data, bridge, socket, and a port that wants a client's certificate."""
    root = tmp_path_factory.mktemp("dockerd")
    tls = certificates(root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=False, capture_output=True, timeout=10)
    for command in (["addr", "replace", "172.31.78.1/24", "dev", BRIDGE], ["link", "set", BRIDGE, "up"]):
        subprocess.run(["ip", *command], check=True, timeout=10)
    listen = [f"--host=unix://{root}/d.sock", f"--host=tcp://127.0.0.1:{port}", "--tlsverify"]
    files = [f"--tlscacert={root}/ca.pem", f"--tlscert={root}/server.pem", f"--tlskey={root}/server-key.pem"]
    places = [f"--data-root={root}/data", f"--exec-root={root}/exec", f"--pidfile={root}/pid"]
    network = [f"--bridge={BRIDGE}", "--iptables=false"]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(["dockerd", *listen, *files, *places, *network], stdout=log, stderr=log)
    try:
        until_answers(f"{root}/d.sock", process, root / "log")
        engine = EngineClient(f"{root}/d.sock")
        engine.build(IMAGE, binary)
        engine.close()
        yield Host(f"tcp://127.0.0.1:{port}", f"{root}/d.sock", tls, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, timeout=10)


def until_answers(path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(150):
        if process.poll() is not None:
            pytest.skip(f"dockerd ended: {log.read_text().splitlines()[-1:]}")
        if Path(path).exists():
            transport = httpx.HTTPTransport(uds=path, retries=50)
            with httpx.Client(transport=transport, base_url="http://engine", timeout=30) as client:
                if client.get("/_ping").status_code == 200:
                    return
        time.sleep(0.2)
    pytest.skip("a second dockerd does not come up")


def certificates(directory: Path) -> dict[str, str]:
    """An authority, the engine's certificate and a client's; the client's three files."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server", "client")}
    subjects = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in keys}
    now = dt.datetime.now(dt.UTC)
    usages = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    made = {}
    for name, key in keys.items():
        builder = (
            x509.CertificateBuilder(subjects["ca"], subjects[name], key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        )
        if name in usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usages[name]]), critical=False)
        if name == "server":
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made[name] = builder.sign(keys["ca"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    private = {
        name: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        for name, key in keys.items()
    }
    for file, text in (("ca.pem", made["ca"]), ("server.pem", made["server"]), ("server-key.pem", private["server"])):
        (directory / file).write_text(text)
    return dict(zip(TLS_FILES, (made["ca"], made["client"], private["client"]), strict=True))


def a_host(url: str, **changes: object) -> Cluster:
    return Cluster(
        id=new_id(),
        name="box",
        group_id="g",
        group_name="box",
        region="lab",
        gpus=(gpu("ON-PREM", "H100", 2, emulated=True), cpu("ON-PREM", 2)),
        kind=ClusterKind.DOCKER,
        connection=Connection(url, "127.0.0.1", "127.0.0.1"),
        **changes,  # type: ignore[arg-type]
    )


def a_request(**changes: object) -> LaunchRequest:
    given: dict[str, object] = {
        "instance_id": InstanceId(new_id()),
        "nca_id": "nvcf-default",
        "function_id": "f",
        "version_id": "v",
        "function_name": "echo",
        "image": IMAGE,
        "args": None,
        "environment": (("GREETING", "hello"),),
        "inference_port": 8000,
        "health_port": 8000,
        "gpu": "CPU",
        "gpu_count": 0,
        "emulated": False,
        "instance_type": "ON-PREM.CPU_1x",
        "instance_type_value": "ON-PREM.CPU",
        "backend": "box",
        "region": "lab",
        "secrets": {"secrets.json": '{"token":"one"}'},
    }
    return LaunchRequest(**(given | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def places(data: Path, installation: str = "hosts") -> AsyncIterator[Places]:
    async with Supervisor() as tasks:
        yield Places(DockerSettings(), data, installation, tasks)


@second_engine
async def test_an_engine_over_tls_runs_what_it_is_given(host: Host, tmp_path: Path) -> None:
    """Launched, reached at its published port, asked from inside, read, given new secrets, found again by a successor,
    ended and forgotten; nothing of the data directory is mounted there.
    """
    cluster, request = a_host(host.url), a_request()
    async with places(tmp_path) as first:
        backend = await first.connect(cluster, host.tls)
        await backend.launch(request)
        seen = await until(backend, request.instance_id, Phase.RUNNING)
        assert seen.address is not None
        async with httpx.AsyncClient(base_url=f"http://{seen.address.host}:{seen.address.port}") as client:
            assert "GREETING=hello" in (await answered(client, "/env")).text
            assert (await client.post("/echo", content=b"over there")).text == "over there"
        inspected = EngineClient(host.socket)
        assert secret_in(host.socket, request.instance_id) == '{"token":"one"}'
        await backend.refresh(request.instance_id, {"secrets.json": '{"token":"two"}'})
        assert secret_in(host.socket, request.instance_id) == '{"token":"two"}'
        assert inspected.inspect(f"gpufn-{request.instance_id}")["Mounts"] == []
        inspected.close()
        await backend.close(terminate=False)
    async with places(tmp_path) as second:
        backend = await second.connect(cluster, host.tls)
        assert await backend.list() == [request.instance_id]
        assert [line.text async for line in backend.logs(request.instance_id, follow=False, tail=1)]
        await backend.terminate(request.instance_id, grace=1)
        await until(backend, request.instance_id, Phase.ABSENT)
        assert [line.text async for line in backend.logs(request.instance_id, follow=False, tail=1)]
        await backend.forget(request.instance_id)
        await backend.close(terminate=True)


@second_engine
async def test_nobody_gets_in_without_the_certificate(host: Host, tmp_path: Path) -> None:
    """Without a client's certificate, or with the wrong authority, connecting fails as a BackendError."""
    async with places(tmp_path) as way:
        for tls in ({}, host.tls | {"ca.pem": certificates(tmp_path)["ca.pem"]}):
            with pytest.raises(BackendError):
                await way.connect(a_host(host.url), tls)
        with pytest.raises(BackendError, match="TLS files cannot be used"):
            await way.connect(a_host(host.url), host.tls | {"key.pem": "no key"})


@second_engine
async def test_a_frozen_engine_is_silent_and_comes_back(host: Host, tmp_path: Path) -> None:
    """While its process is stopped nothing is answered; afterwards the same backend works again."""
    async with places(tmp_path) as way:
        backend = await way.connect(a_host(host.url), host.tls)
        host.process.send_signal(signal.SIGSTOP)
        with pytest.raises((BackendError, TimeoutError)):
            async with asyncio.timeout(3):
                await backend.list()
        host.process.send_signal(signal.SIGCONT)
        assert await backend.list() == []
        await backend.close(terminate=True)


async def test_an_engine_over_ssh_is_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key and a known host, through ``docker system dial-stdio`` over there, as Docker's own client does."""
    asyncssh = pytest.importorskip("asyncssh")
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))

    async def serve(process: Any) -> None:
        inner = await asyncio.create_subprocess_exec(
            *process.command.split(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        forth = asyncio.ensure_future(pump(process.stdin, inner.stdin))
        await pump(inner.stdout, process.stdout)
        forth.cancel()
        await asyncio.wait([forth])
        inner.kill()
        process.exit(await inner.wait())

    (tmp_path / "authorized").write_bytes(user_key.export_public_key())
    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(tmp_path / "authorized"),
        process_factory=serve,
        encoding=None,
    )
    port = server.sockets[0].getsockname()[1]
    (tmp_path / ".ssh").mkdir()
    user_key.write_private_key(tmp_path / ".ssh" / "id_ed25519")
    known = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
    (tmp_path / ".ssh" / "known_hosts").write_text(known)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with places(tmp_path) as way:
        backend = await way.connect(a_host(f"ssh://tester@127.0.0.1:{port}"), {})
        assert await backend.list() == []
        await backend.close(terminate=False)
    server.close()
    await server.wait_closed()


async def test_declared_gpus_need_an_engine_that_has_some(tmp_path: Path) -> None:
    """An engine without NVIDIA's runtime is refused when real GPUs were declared for it."""
    async with places(tmp_path) as way:
        cluster = a_host(f"unix://{SOCKET}")
        real = Cluster(**(vars(cluster) | {"gpus": (gpu("ON-PREM", "H100", 2),)}))
        with pytest.raises(BackendError, match="NVIDIA Container Toolkit"):
            await way.connect(real, {})


async def test_a_task_is_refused_where_no_files_are_shared(tmp_path: Path) -> None:
    """Placement does not send one there; if it comes all the same, it fails and says why."""
    engine = EngineClient(SOCKET)
    engine.build(IMAGE, b"no program")
    async with places(tmp_path) as way:
        backend = await way.connect(a_host(f"unix://{SOCKET}"), {})
        request = a_request(task=TaskLaunch("t", "t", str(tmp_path)))
        await backend.launch(request)
        async with asyncio.timeout(10):
            detail = ""
            while "does not share" not in detail:
                detail = (await backend.observe([request.instance_id]))[request.instance_id].detail
                await asyncio.sleep(0.02)  # a real engine: there is nothing else to wait on
        await backend.forget(request.instance_id)
        await backend.close(terminate=True)
    engine.remove_image(IMAGE)
    engine.close()


def secret_in(path: str, instance_id: str) -> str:
    """The file as the container has it, out of the engine's archive of it."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://engine/v1.41") as client:
        got = client.get(f"/containers/gpufn-{instance_id}/archive", params={"path": "/var/secrets/secrets.json"})
    with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
        file = archive.extractfile("secrets.json")
        assert file is not None
        return file.read().decode()


async def pump(source: Any, target: Any) -> None:
    """Carry bytes until there are no more."""
    while data := await source.read(65536):
        target.write(data)
        await target.drain()


async def answered(client: httpx.AsyncClient, path: str) -> httpx.Response:
    for _ in range(100):
        with contextlib.suppress(httpx.TransportError):
            return await client.get(path)
        await asyncio.sleep(0.05)  # a real program: there is nothing else to wait on
    raise AssertionError("it does not listen")


async def until(backend: object, instance_id: InstanceId, phase: Phase) -> Observation:
    async with asyncio.timeout(30):
        while True:
            seen: Observation = (await backend.observe([instance_id]))[instance_id]  # type: ignore[attr-defined]
            if seen.phase is phase:
                return seen
            assert phase is Phase.ABSENT or seen.phase is not Phase.EXITED, seen
            await asyncio.sleep(0.05)  # a real engine: there is nothing else to wait on

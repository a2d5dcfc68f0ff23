"""Images made from nothing, and a private registry, for the Docker backend's tests. Nothing comes from a network."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ECHO_SOURCE = Path(__file__).with_name("echo.c")
TASK_SOURCE = Path(__file__).with_name("task.c")
USER, PASSWORD = "robot", "s3cret"


def compile_echo(directory: Path, source: Path = ECHO_SOURCE) -> bytes:
    """The static test server, or another program."""
    program = directory / source.stem
    subprocess.run(["gcc", "-static", "-Os", "-o", program, source], check=True, timeout=60)
    return program.read_bytes()


class EngineClient:
    """What the tests ask of the engine behind the backend's back."""

    def __init__(self, path: str) -> None:
        self._http = httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://engine/v1.41", timeout=30)

    def close(self) -> None:
        self._http.close()

    def build(self, tag: str, binary: bytes, *, entrypoint: str = "/echo") -> None:
        """An image of one file at /echo."""
        dockerfile = f'FROM scratch\nCOPY echo /echo\nENTRYPOINT ["{entrypoint}"]\nCMD ["8000"]\n'
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as archive:
            for name, content in (("echo", binary), ("Dockerfile", dockerfile.encode())):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        answer = self._http.post("/build", params={"t": tag, "q": "1"}, content=body.getvalue())
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text, answer.text

    def push(self, image: str) -> None:
        secret = {"username": USER, "password": PASSWORD, "serveraddress": image.partition("/")[0]}
        header = base64.urlsafe_b64encode(json.dumps(secret).encode()).decode()
        name, _, tag = image.rpartition(":")
        answer = self._http.post(f"/images/{name}/push", params={"tag": tag}, headers={"X-Registry-Auth": header})
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text, answer.text

    def remove_image(self, image: str) -> None:
        self._http.delete(f"/images/{image}", params={"force": "1"})

    def inspect(self, name: str) -> dict[str, object]:
        answer = self._http.get(f"/containers/{name}/json")
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    def create(self, name: str, body: dict[str, object]) -> None:
        answer = self._http.post("/containers/create", params={"name": name}, json=body)
        assert answer.status_code == 201, answer.text

    def labelled(self, label: str) -> list[dict[str, object]]:
        """The containers with a label, whatever they do."""
        filters = json.dumps({"label": [label]})
        found: list[dict[str, object]] = self._http.get(
            "/containers/json", params={"all": "1", "filters": filters}
        ).json()
        return found

    def remove_installation(self, installation: str) -> int:
        """Remove all its containers; how many there were."""
        left = self.labelled(f"gpufn.installation={installation}")
        for container in left:
            self._http.delete(f"/containers/{container['Id']}", params={"force": "1", "v": "1"})
        return len(left)


@contextmanager
def private_registry(directory: Path) -> Iterator[str]:
    """A registry on loopback that wants USER and PASSWORD; yields its host:port. Engines speak plain HTTP to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    passwords, config = directory / "htpasswd", directory / "registry.yml"
    line = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True, timeout=10).stdout
    passwords.write_bytes(line)
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: tests, path: {passwords}}}}}\n"
    )
    program = shutil.which("docker-registry")
    assert program is not None
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen([program, "serve", config], stdout=log, stderr=log) as it,
    ):
        try:
            _wait(port)
            yield f"127.0.0.1:{port}"
        finally:
            it.terminate()
            it.wait(10)


def _wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # a process of its own: there is nothing to wait on but its port
    raise AssertionError("the registry did not start")

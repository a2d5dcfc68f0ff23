"""A function that is a container, through the whole program, on a real engine."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_images import PASSWORD, USER, EngineClient, compile_echo, private_registry
from installation import eventually, installed

from gpufn.compute.docker.sockets import missing

SOCKET = "/var/run/docker.sock"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing(SOCKET)), reason=f"{SOCKET}: {missing(SOCKET)}; run scripts/docker-for-tests"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed; run scripts/docker-for-tests"),
]


@pytest.fixture
def private_image(tmp_path: Path) -> Iterator[str]:
    """An image that only a private registry has."""
    engine = EngineClient(SOCKET)
    with private_registry(tmp_path) as registry:
        image = f"{registry}/team/echo:1"
        engine.build(image, compile_echo(tmp_path))
        engine.push(image)
        engine.remove_image(image)
        yield image
        engine.remove_image(image)
    engine.close()


def test_a_private_image_is_pulled_and_invoked(tmp_path: Path, private_image: str) -> None:
    """With the registry's credentials in config.json a deployment becomes ACTIVE, answers, leaves nothing."""
    login = tmp_path / "config.json"
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    login.write_text(f'{{"auths": {{"{private_image.partition("/")[0]}": {{"auth": "{auth}"}}}}}}')
    data = tmp_path / "gpufn"
    data.mkdir()
    (data / "gpufn.toml").write_text(f'[docker]\nenabled = "yes"\nauth_file = "{login}"\n')
    with installed(data, docker=True) as here:
        ids = here.deploy(containerImage=private_image)

        answer = here.invoke(ids[0], {"message": "from a container"})
        assert answer.status_code == 200
        assert "from a container" in answer.text
        assert here.gpufn("logs", ids[0], "--tail", "5").returncode == 0
        here.child("control").kill()
        eventually(lambda: here.invoke(ids[0], {"message": "x"}).status_code == 200, within=30, what="it goes on")
        assert here.stop() == 0
    engine = EngineClient(SOCKET)
    left = engine.remove_installation(_mark(data))
    engine.close()
    assert left == 0


def test_a_refused_image_ends_the_deployment_with_the_reason(tmp_path: Path, private_image: str) -> None:
    """Without credentials the deployment ends in ERROR, naming the registry and where to log in."""
    with installed(tmp_path / "gpufn", docker=True) as here:
        here.gpufn(
            "function", "create", "secret", "--image", private_image, "--inference-url", "/echo", "--port", "8000"
        )
        done = here.gpufn("deploy", "secret", "--gpu", "H100", "--min", "1")

        assert done.returncode == 1, done.stdout
        assert private_image.partition("/")[0] in done.stderr


def _mark(data: Path) -> str:
    """The label of everything that this data directory started."""
    return hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:32]

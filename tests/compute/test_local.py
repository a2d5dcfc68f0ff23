"""The local cluster: who gets what."""

from __future__ import annotations

import pytest
from contract import a_request, lines, seen

from gpufn.compute.backend import BackendError, LaunchRequest, Observation, Phase
from gpufn.compute.fake import FakeBackend
from gpufn.compute.local import LocalBackend
from gpufn.model.ids import InstanceId
from gpufn.model.instance import FailureKind


class Only(FakeBackend):
    """Provides the images it is given; can be made not to answer."""

    def __init__(self, *images: str, down: str = "") -> None:
        super().__init__()
        self.images, self.down = images, down

    async def open(self) -> None:
        """Fails while it is down."""
        self._check()

    async def provides(self, image: str) -> bool:
        """Only its own."""
        return image in self.images

    async def launch(self, request: LaunchRequest) -> None:
        """Fails while it is down."""
        self._check()
        await super().launch(request)

    async def observe(self, ids: object) -> dict[InstanceId, Observation]:
        """Fails while it is down."""
        self._check()
        return dict(await super().observe(ids))  # type: ignore[arg-type]

    def _check(self) -> None:
        if self.down:
            raise BackendError(self.down)


async def test_catalog_comes_before_the_engine() -> None:
    """An image that both have runs as a process; one that only the engine has, there."""
    process, docker = Only("both"), Only("both", "container")
    local = LocalBackend(process, docker)
    await local.open()
    both, container = a_request("both"), a_request("container")
    await local.launch(both)
    await local.launch(container)

    assert process.launches == [both]
    assert docker.launches == [container]
    assert set(await local.list()) == {both.instance_id, container.instance_id}
    assert (await seen(local, container.instance_id)).phase is Phase.RUNNING


async def test_verbs_reach_the_owner() -> None:
    """Logs, terminate and forget go to the backend that has the instance."""
    process, docker = Only(), Only("container")
    local = LocalBackend(process, docker)
    await local.open()
    request = a_request("container")
    await local.launch(request)
    docker.write(request.instance_id, "hello")

    assert await lines(local, request.instance_id) == ["hello"]
    await local.terminate(request.instance_id, grace=1)
    assert (await seen(local, request.instance_id)).phase is Phase.ABSENT
    await local.forget(request.instance_id)
    assert docker.instances == {}


async def test_unknown_image_says_where_was_looked_and_what_to_do() -> None:
    """The failure is permanent and names both places and the remedy; terminate clears it."""
    local = LocalBackend(Only(), Only(down="no engine answers at /var/run/docker.sock"))
    await local.open()
    request = a_request("x")
    await local.launch(request)
    failure = (await seen(local, request.instance_id)).failure

    assert not await local.provides("x")
    assert failure is not None
    assert (failure.kind, failure.permanent) == (FailureKind.IMAGE, True)
    for words in ("'x'", "gpufn image list", "/var/run/docker.sock", "gpufn image add DIR", "start Docker"):
        assert words in failure.message
    await local.terminate(request.instance_id, grace=1)
    assert (await seen(local, request.instance_id)).phase is Phase.ABSENT


async def test_engine_that_is_started_later_is_used() -> None:
    """An engine that did not answer at first is asked again when an image needs it."""
    docker = Only("container", down="down")
    local = LocalBackend(Only(), docker)
    await local.open()
    docker.down = ""
    request = a_request("container")
    await local.launch(request)

    assert (await seen(local, request.instance_id)).phase is Phase.RUNNING


async def test_required_engine_must_answer() -> None:
    """With docker_required the missing engine is an error at once."""
    with pytest.raises(BackendError, match="down"):
        await LocalBackend(Only(), Only(down="down"), docker_required=True).open()


async def test_silent_engine_does_not_hide_processes() -> None:
    """When the engine stops answering, processes are still seen; what may be the engine's is an error, not ABSENT."""
    docker = Only("container")
    local = LocalBackend(Only("image"), docker)
    await local.open()
    own, container = a_request("image"), a_request("container")
    await local.launch(own)
    await local.launch(container)
    docker.down = "gone"

    assert (await seen(local, own.instance_id)).phase is Phase.RUNNING
    with pytest.raises(BackendError, match="gone"):
        await local.observe([container.instance_id])


async def test_owners_are_found_again() -> None:
    """A new process of ours learns who has what from what runs."""
    docker = Only("container")
    request = a_request("container")
    await docker.launch(request)
    local = LocalBackend(Only(), docker)
    await local.open()

    assert (await seen(local, request.instance_id)).phase is Phase.RUNNING
    await local.terminate(request.instance_id, grace=1)
    assert (await seen(local, request.instance_id)).phase is Phase.ABSENT

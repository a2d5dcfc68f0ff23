"""The fake backends, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from contract import BackendContract, Subject, a_request, lines, seen

from gpufn.compute.backend import Backend, LaunchRequest, Phase
from gpufn.compute.fake import FailsToLaunch, FakeBackend, LosesInstances, NeverHealthy, SlowToStop, UnknownImage
from gpufn.model.function import Health
from gpufn.model.instance import Failure, FailureKind

pytestmark = pytest.mark.looptime


class _Scripted(FakeBackend):
    """Runs ``exits`` and ``unknown`` as a real backend would."""

    async def provides(self, image: str) -> bool:
        return image != "unknown"

    async def launch(self, request: LaunchRequest) -> None:
        await super().launch(request)
        if request.image == "unknown":
            self.fail(request.instance_id, Failure(FailureKind.IMAGE, "no image 'unknown'", permanent=True))
        if request.image == "exits":
            self.write(request.instance_id, "goodbye")
            self.exit(request.instance_id, code=3)


class TestContract(BackendContract):
    """The contract that every backend keeps."""

    @pytest.fixture
    def subject(self) -> Subject:
        """A fake that takes a while to prepare and to stop."""
        backend = _Scripted(prepare=1, stop=0.5)

        async def reopen() -> Backend:
            return backend

        return Subject(backend, "any", "exits", "unknown", reopen)


async def test_instance_is_ready_when_its_time_has_come() -> None:
    """It prepares, runs, and is healthy after exactly the seconds it was given."""
    backend = FakeBackend(prepare=10, ready=5)
    request = a_request("any")
    await backend.launch(request)
    await asyncio.sleep(9.9)
    assert (await seen(backend, request.instance_id)).phase is Phase.PREPARING
    await asyncio.sleep(0.2)
    running = await seen(backend, request.instance_id)
    assert running.address is not None
    assert await backend.probe(Health(), running.address) == "connection refused"
    await asyncio.sleep(5)

    assert await backend.probe(Health(), running.address) is None
    backend.sicken(request.instance_id, "answered 500, expected 200")
    assert await backend.probe(Health(), running.address) == "answered 500, expected 200"


async def test_each_failing_kin_fails_as_its_name_says() -> None:
    """FailsToLaunch and UnknownImage exit, NeverHealthy runs, LosesInstances vanishes."""
    fails, unknown, sick, loses = FailsToLaunch(), UnknownImage(), NeverHealthy(), LosesInstances()
    request = a_request("any")
    for backend in (fails, unknown, sick, loses):
        await backend.launch(request)
    failed, missing = await seen(fails, request.instance_id), await seen(unknown, request.instance_id)
    running = await seen(sick, request.instance_id)
    assert failed.failure is not None
    assert missing.failure is not None
    assert running.address is not None

    assert (failed.failure.kind, failed.failure.permanent) == (FailureKind.START, False)
    assert (missing.failure.kind, missing.failure.permanent) == (FailureKind.IMAGE, True)
    assert await sick.probe(Health(), running.address) == "answered 503, expected 200"
    assert (await seen(loses, request.instance_id)).phase is Phase.RUNNING
    await asyncio.sleep(LosesInstances.lifetime)
    assert (await seen(loses, request.instance_id)).phase is Phase.ABSENT


async def test_slow_to_stop_uses_up_its_grace() -> None:
    """It is seen stopping until the grace is over, and absent then."""
    backend = SlowToStop()
    request = a_request("any")
    await backend.launch(request)
    await backend.terminate(request.instance_id, grace=20)
    await asyncio.sleep(19)
    assert (await seen(backend, request.instance_id)).detail == "stopping"
    await asyncio.sleep(1)

    assert (await seen(backend, request.instance_id)).phase is Phase.ABSENT


async def test_log_follower_hears_what_is_written() -> None:
    """Lines arrive as they are written; the tail is the last of them."""
    backend = FakeBackend()
    request = a_request("any")
    await backend.launch(request)
    backend.write(request.instance_id, "one")
    heard: list[str] = []

    async def listen() -> None:
        heard.extend([line.text async for line in backend.logs(request.instance_id, follow=True, tail=None)])

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        await asyncio.sleep(1)
        backend.write(request.instance_id, "two")
        await asyncio.sleep(1)
        backend.lose(request.instance_id)

    assert heard == ["one", "two"]
    assert await lines(backend, request.instance_id, tail=1) == ["two"]

"""What every compute backend must do, whatever it runs on. A test module subclasses ``BackendContract`` and gives it a
``subject`` fixture; see ``gpufn/compute/backend.py`` for the words that are checked here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gpufn.compute.backend import Backend, LaunchRequest, Observation, Phase
from gpufn.model.ids import InstanceId, new_id
from gpufn.model.instance import FailureKind


@dataclass
class Subject:
    """One backend, opened, and what it can run."""

    backend: Backend
    runs: str
    """An image that keeps running and writes at least one line."""
    exits: str | None
    """An image that writes ``goodbye`` and ends with code 3; None where the backend cannot have one."""
    unknown: str | None
    """An image that does not exist; None where the backend has every image."""
    reopen: Callable[[], Awaitable[Backend]]
    """Lets go of what runs and opens the backend anew, as a new process of ours would."""
    patience: float = 15.0
    """Seconds that a change may take to be seen."""


def a_request(image: str, **changes: object) -> LaunchRequest:
    """A launch request for ``image``, on the CPU."""
    values: dict[str, object] = {
        "instance_id": InstanceId(new_id()),
        "nca_id": "nvcf-default",
        "function_id": new_id(),
        "version_id": new_id(),
        "function_name": "contract",
        "image": image,
        "args": None,
        "environment": (),
        "inference_port": 8000,
        "health_port": 8000,
        "gpu": "CPU",
        "gpu_count": 0,
        "emulated": False,
        "instance_type": "ON-PREM.CPU_1x",
        "instance_type_value": "ON-PREM.CPU",
        "backend": "local",
        "region": "local",
    }
    return LaunchRequest(**(values | changes))  # type: ignore[arg-type]


async def seen(backend: Backend, instance_id: InstanceId) -> Observation:
    """What is seen of one instance."""
    return (await backend.observe([instance_id]))[instance_id]


async def until(backend: Backend, instance_id: InstanceId, phase: Phase, *, patience: float) -> Observation:
    """Wait until ``phase`` is seen; fails with what is seen instead."""
    last = await seen(backend, instance_id)
    try:
        async with asyncio.timeout(patience):
            while last.phase is not phase:
                await asyncio.sleep(0.02)
                last = await seen(backend, instance_id)
    except TimeoutError:
        raise AssertionError(f"not {phase} within {patience} s but {last}") from None
    return last


async def lines(backend: Backend, instance_id: InstanceId, *, tail: int | None = None) -> list[str]:
    """Its log as it is."""
    return [line.text async for line in backend.logs(instance_id, follow=False, tail=tail)]


class BackendContract:
    """The suite."""

    async def test_launched_is_seen_running_with_an_address(self, subject: Subject) -> None:
        """A launched instance is prepared, then runs, and tells where it listens."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)

        first = await seen(subject.backend, request.instance_id)
        running = await until(subject.backend, request.instance_id, Phase.RUNNING, patience=subject.patience)

        assert first.phase in (Phase.PREPARING, Phase.STARTING, Phase.RUNNING)
        assert running.address is not None
        assert running.address.port > 0
        assert running.address.health_port == running.address.port

    async def test_two_launches_are_one(self, subject: Subject) -> None:
        """Launching an id again changes nothing."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)
        before = await until(subject.backend, request.instance_id, Phase.RUNNING, patience=subject.patience)
        await subject.backend.launch(request)

        assert await seen(subject.backend, request.instance_id) == before
        assert list(await subject.backend.list()).count(request.instance_id) == 1

    async def test_unlaunched_is_absent(self, subject: Subject) -> None:
        """Every id that is asked about has an entry; one never launched is ABSENT."""
        ids = [InstanceId(new_id()), InstanceId(new_id())]

        assert await subject.backend.observe(ids) == dict.fromkeys(ids, Observation(Phase.ABSENT))

    async def test_terminated_becomes_absent_and_is_not_listed(self, subject: Subject) -> None:
        """After terminate the instance goes, from observe and from list; terminating again is harmless."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)
        await until(subject.backend, request.instance_id, Phase.RUNNING, patience=subject.patience)
        assert request.instance_id in await subject.backend.list()
        await subject.backend.terminate(request.instance_id, grace=2)
        await subject.backend.terminate(request.instance_id, grace=2)

        await until(subject.backend, request.instance_id, Phase.ABSENT, patience=subject.patience)
        assert request.instance_id not in await subject.backend.list()

    async def test_terminating_at_once_leaves_nothing(self, subject: Subject) -> None:
        """Terminate right after launch, while it may still be prepared, ends in ABSENT too."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)
        await subject.backend.terminate(request.instance_id, grace=2)

        await until(subject.backend, request.instance_id, Phase.ABSENT, patience=subject.patience)
        assert request.instance_id not in await subject.backend.list()

    async def test_terminating_the_unknown_is_harmless(self, subject: Subject) -> None:
        """Terminate and forget of an id that was never here do nothing."""
        instance_id = InstanceId(new_id())
        await subject.backend.terminate(instance_id, grace=1)
        await subject.backend.forget(instance_id)

        assert (await seen(subject.backend, instance_id)).phase is Phase.ABSENT

    async def test_logs_outlive_the_instance_until_forget(self, subject: Subject) -> None:
        """The log can be read after the end, and is gone after forget."""
        if subject.exits is None:
            return
        request = a_request(subject.exits)
        await subject.backend.launch(request)
        await until(subject.backend, request.instance_id, Phase.EXITED, patience=subject.patience)
        await subject.backend.terminate(request.instance_id, grace=1)
        await until(subject.backend, request.instance_id, Phase.ABSENT, patience=subject.patience)

        assert await lines(subject.backend, request.instance_id, tail=1) == ["goodbye"]
        await subject.backend.forget(request.instance_id)
        assert await lines(subject.backend, request.instance_id) == []

    async def test_exit_is_seen_with_its_reason(self, subject: Subject) -> None:
        """An instance that ends by itself stays EXITED, with code and last words, until it is terminated."""
        if subject.exits is None:
            return
        request = a_request(subject.exits)
        await subject.backend.launch(request)
        exited = await until(subject.backend, request.instance_id, Phase.EXITED, patience=subject.patience)

        assert exited.failure is not None
        assert exited.failure.kind is FailureKind.EXIT
        assert "code 3" in exited.failure.message
        assert "goodbye" in exited.failure.message
        assert await seen(subject.backend, request.instance_id) == exited
        assert request.instance_id not in await subject.backend.list()

    async def test_unknown_image_is_a_permanent_failure(self, subject: Subject) -> None:
        """An image that nobody has ends the instance at once; the message names it."""
        if subject.unknown is None:
            return
        request = a_request(subject.unknown)
        assert not await subject.backend.provides(subject.unknown) or subject.backend.name == "docker"
        await subject.backend.launch(request)
        exited = await until(subject.backend, request.instance_id, Phase.EXITED, patience=subject.patience)

        assert exited.failure is not None
        assert exited.failure.kind is FailureKind.IMAGE
        assert exited.failure.permanent
        assert subject.unknown in exited.failure.message

    async def test_following_logs_ends_with_the_instance(self, subject: Subject) -> None:
        """A follower is sent what was written, and its stream ends when the instance does."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)
        await until(subject.backend, request.instance_id, Phase.RUNNING, patience=subject.patience)

        async def follow() -> list[str]:
            return [line.text async for line in subject.backend.logs(request.instance_id, follow=True, tail=None)]

        async with asyncio.timeout(subject.patience), asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            await asyncio.sleep(0)
            await subject.backend.terminate(request.instance_id, grace=2)
        assert all("\n" not in text for text in following.result())

    async def test_reopened_backend_finds_what_runs(self, subject: Subject) -> None:
        """A new process of ours sees the same instance at the same address, and can end it."""
        request = a_request(subject.runs)
        await subject.backend.launch(request)
        before = await until(subject.backend, request.instance_id, Phase.RUNNING, patience=subject.patience)
        backend = await subject.reopen()

        assert await until(backend, request.instance_id, Phase.RUNNING, patience=subject.patience) == before
        assert request.instance_id in await backend.list()
        await backend.terminate(request.instance_id, grace=2)
        await until(backend, request.instance_id, Phase.ABSENT, patience=subject.patience)

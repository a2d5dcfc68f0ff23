"""The ``local`` cluster: images of the catalog run as processes, all others in the container engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from gpufn.compute.backend import Backend, BackendError, ExecResult, Files, LaunchRequest, LogLine, Observation, Phase
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Failure, FailureKind
from gpufn.runtime.log import get_logger

log = get_logger("local")


class LocalBackend:
    """Passes each verb to the backend that has the instance; the catalog is asked before the engine.

    An engine that does not answer is no error until an image needs it: with ``docker_required`` it is one at once.
    """

    name = "local"

    def __init__(self, process: Backend, docker: Backend | None = None, *, docker_required: bool = False) -> None:
        self._process, self._docker, self._required = process, docker, docker_required
        self._docker_open = False
        self._docker_error = "it is switched off (docker.enabled)" if docker is None else "it was not tried yet"
        self._owners: dict[InstanceId, Backend] = {}
        self._refused: dict[InstanceId, Failure] = {}

    def __repr__(self) -> str:
        return f"<LocalBackend docker={self._docker_open} owned={len(self._owners)} refused={len(self._refused)}>"

    async def open(self) -> None:
        """Open both, and learn who has what."""
        await self._process.open()
        if await self._engine() is None and self._required:
            raise BackendError(self._docker_error)
        for member in self._members():
            for instance_id in await member.list():
                self._owners[instance_id] = member

    async def _engine(self) -> Backend | None:
        """The container engine, if it answers; it is tried again each time, as it may have been started since."""
        if self._docker is None:
            return None
        if not self._docker_open:
            try:
                await self._docker.open()
            except BackendError as error:
                self._docker_error = str(error)
                log.debug("no container engine", reason=self._docker_error)
                return None
            self._docker_open = True
        return self._docker

    def _members(self) -> Sequence[Backend]:
        return [self._process, *([self._docker] if self._docker is not None and self._docker_open else [])]

    async def close(self, *, terminate: bool) -> None:
        """Close both, the second also when the first fails."""
        try:
            await self._process.close(terminate=terminate)
        finally:
            if self._docker is not None and self._docker_open:
                await self._docker.close(terminate=terminate)

    async def health(self) -> Mapping[str, str]:
        """Of each backend why it does not work; empty where it does."""
        return {"process": "", "docker": "" if await self._engine() is not None else self._docker_error}

    async def provides(self, image: str) -> bool:
        """Whether either does."""
        return await self._provider(image) is not None

    async def owns(self, image: str) -> bool:
        """Whether it is one of the catalog, which no other cluster has."""
        return await self._process.provides(image)

    async def _provider(self, image: str) -> Backend | None:
        if await self._process.provides(image):
            return self._process
        engine = await self._engine()
        return engine if engine is not None and await engine.provides(image) else None

    async def launch(self, request: LaunchRequest) -> None:
        """Give it to the backend that has its image; an image that none has ends the instance at once."""
        owner = self._owners.get(request.instance_id) or await self._provider(request.image)
        if owner is None:
            self._refused[request.instance_id] = self._unknown(request.image)
            return
        self._refused.pop(request.instance_id, None)
        self._owners[request.instance_id] = owner
        await owner.launch(request)

    def _unknown(self, image: str) -> Failure:
        engine = "the container engine does not provide it" if self._docker_open else self._docker_error
        return Failure(
            FailureKind.IMAGE,
            f"no image {image!r}: not in the local catalog (`gpufn image list`), and no container engine has it "
            f"({engine}); add it with `gpufn image add DIR`, or start Docker",
            permanent=True,
        )

    async def refresh(self, instance_id: InstanceId, secrets: Files) -> None:
        """Where it is."""
        for member in self._holders(instance_id):
            await member.refresh(instance_id, secrets)

    async def observe(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Observation]:
        """Each from its owner; one without a known owner from whichever backend sees it."""
        seen: dict[InstanceId, Observation] = {
            i: Observation(Phase.EXITED, failure=self._refused[i]) for i in ids if i in self._refused
        }
        errors: list[BackendError] = []
        for member in self._members():
            asked = [i for i in ids if i not in seen and self._owners.get(i, member) is member]
            try:
                answers = await member.observe(asked) if asked else {}
            except BackendError as error:
                errors.append(error)
                continue
            for instance_id, observation in answers.items():
                if observation.phase is not Phase.ABSENT:
                    self._owners[instance_id] = member
                if instance_id in self._owners:
                    seen[instance_id] = observation
        if errors and any(i not in seen for i in ids):
            raise errors[0]
        return {i: seen.get(i, Observation(Phase.ABSENT)) for i in ids}

    async def terminate(self, instance_id: InstanceId, *, grace: float) -> None:
        """Where it is; everywhere, if that is not known."""
        self._refused.pop(instance_id, None)
        for member in self._holders(instance_id):
            await member.terminate(instance_id, grace=grace)

    async def list(self) -> Sequence[InstanceId]:
        """What any of them has."""
        found: dict[InstanceId, Backend] = {}
        for member in self._members():
            found |= dict.fromkeys(await member.list(), member)
        self._owners |= found
        return [*found]

    async def forget(self, instance_id: InstanceId) -> None:
        """Where it is; everywhere, if that is not known."""
        self._refused.pop(instance_id, None)
        for member in self._holders(instance_id):
            await member.forget(instance_id)
        self._owners.pop(instance_id, None)

    async def exec(self, instance_id: InstanceId, command: Sequence[str], *, seconds: float) -> ExecResult | None:
        """Where it is."""
        for member in self._holders(instance_id):
            found = await member.exec(instance_id, command, seconds=seconds)
            if found is not None:
                return found
        return None

    async def logs(
        self, instance_id: InstanceId, *, follow: bool, tail: int | None, since: datetime | None = None
    ) -> AsyncIterator[LogLine]:
        """From its owner."""
        for member in self._holders(instance_id):
            async for line in member.logs(instance_id, follow=follow, tail=tail, since=since):
                yield line

    def _holders(self, instance_id: InstanceId) -> Sequence[Backend]:
        owner = self._owners.get(instance_id)
        return self._members() if owner is None else [owner]

"""How a container gets what it shares with the platform: /var/inf, /var/secrets, a task's /var/task.

On this machine, and where its data directory is mounted, directories are mounted into the container (``Mounted``).
Elsewhere files are copied into it through the engine (``Copied``): secrets only, for nothing else goes that way.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gpufn.compute import secret_files
from gpufn.compute.backend import BackendError, Files, LaunchRequest
from gpufn.compute.docker import spec
from gpufn.compute.docker.engine import Engine
from gpufn.model.ids import InstanceId
from gpufn.runtime.log import get_logger

log = get_logger("docker")


class Delivery(Protocol):
    """What a backend does around the life of a container."""

    @property
    def fills(self) -> bool:
        """Whether a container is complete only after ``fill``."""
        ...

    async def prepare(self, request: LaunchRequest) -> Mapping[str, Any]:
        """Before it is created: the part of its description that mounts what it shares."""
        ...

    async def fill(self, engine: Engine, request: LaunchRequest) -> None:
        """Between its creation and its start."""
        ...

    async def refresh(self, engine: Engine, instance_id: InstanceId, secrets: Files) -> None:
        """Replace its secrets while it runs; nothing happens where there is no such instance."""
        ...

    async def wipe(self, instance_id: InstanceId) -> None:
        """It is gone: leave no secret behind."""
        ...

    async def delete(self, instance_id: InstanceId) -> None:
        """It is forgotten: leave nothing behind."""
        ...


class Mounted:
    """Directories below ``data``, private to us on this machine."""

    fills = False

    def __init__(self, data: Path) -> None:
        self._data = data

    async def prepare(self, request: LaunchRequest) -> Mapping[str, Any]:
        """Make them; any user of the container may read the secrets and write the rest."""
        shared, secrets = self._shared(request.instance_id), self._secrets(request.instance_id)
        await asyncio.to_thread(_make_shared, shared)
        await self._write(request.instance_id, request.secrets)
        return spec.mounts(request, shared, secrets)

    async def fill(self, engine: Engine, request: LaunchRequest) -> None:
        """All is there already."""

    async def refresh(self, engine: Engine, instance_id: InstanceId, secrets: Files) -> None:
        """Into the directory that is mounted."""
        if self._shared(instance_id).exists():
            await self._write(instance_id, secrets)

    async def wipe(self, instance_id: InstanceId) -> None:
        """The directory stays while others are read."""
        await asyncio.to_thread(secret_files.wipe, self._secrets(instance_id))

    async def delete(self, instance_id: InstanceId) -> None:
        """The whole directory of the instance."""
        await asyncio.to_thread(_delete, self._shared(instance_id).parent)

    async def _write(self, instance_id: InstanceId, secrets: Files) -> None:
        directory = self._secrets(instance_id)
        await asyncio.to_thread(directory.mkdir, exist_ok=True)
        await asyncio.to_thread(secret_files.write, directory, secrets, mode=0o644)

    def _shared(self, instance_id: InstanceId) -> Path:
        return self._data / "instances" / instance_id / "inf"

    def _secrets(self, instance_id: InstanceId) -> Path:
        return self._data / "instances" / instance_id / "secrets"


class Copied:
    """Through the engine. What was copied last is remembered, so that nothing is copied twice."""

    fills = True

    def __init__(self) -> None:
        self._given: dict[InstanceId, Files] = {}

    async def prepare(self, request: LaunchRequest) -> Mapping[str, Any]:
        """Nothing is mounted. Raises BackendError for a task, which cannot do without."""
        if request.task is not None:
            raise BackendError("a task needs a directory that this host does not share; place it elsewhere")
        return {}

    async def fill(self, engine: Engine, request: LaunchRequest) -> None:
        """An empty /var/inf, and the secrets."""
        await self._copy(engine, request.instance_id, request.secrets)

    async def refresh(self, engine: Engine, instance_id: InstanceId, secrets: Files) -> None:
        """Each file is replaced; a reader may see it missing for a moment, never half of it."""
        if self._given.get(instance_id) != secrets:
            await self._copy(engine, instance_id, secrets)

    async def _copy(self, engine: Engine, instance_id: InstanceId, secrets: Files) -> None:
        if await engine.copy_into(spec.container_name(instance_id), archive(secrets)):
            self._given[instance_id] = dict(secrets)

    async def wipe(self, instance_id: InstanceId) -> None:
        """They went with the container."""
        self._given.pop(instance_id, None)

    async def delete(self, instance_id: InstanceId) -> None:
        """Nothing else is kept."""
        self._given.pop(instance_id, None)


def archive(secrets: Files) -> bytes:
    """What is unpacked at ``/`` of a container: a tar file with /var/inf and the files of /var/secrets."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for path, mode in ((spec.SHARED_DIR, 0o777), (secret_files.TARGET, 0o755)):
            directory = tarfile.TarInfo(path.lstrip("/"))
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory)
        for name, text in secrets.items():
            content = text.encode()
            file = tarfile.TarInfo(f"{secret_files.TARGET}/{name}".lstrip("/"))
            file.size, file.mode = len(content), 0o644
            tar.addfile(file, io.BytesIO(content))
    return body.getvalue()


def _make_shared(path: Path) -> None:
    """Private to us on this machine; inside the container any user may write (invocation-plane page, section 10.2)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.mkdir(exist_ok=True)
    path.chmod(0o777)  # the parent is 0700, so only the container's users gain by it


def _delete(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("an instance's directory holds files of another user; remove it by hand", path=str(directory))

"""The container engine's verbs that we use, over its socket. Library exceptions end here: see ``translated``.

Every call has a limit in time; those that may rightly take long (pull, stop, following output) have one between two
signs of life.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiodocker
import aiohttp

from gpufn.compute.backend import EXEC_OUTPUT_MAX, BackendError, ExecResult
from gpufn.compute.docker import sockets
from gpufn.compute.docker.endpoint import Endpoint, client
from gpufn.compute.docker.output import Frames
from gpufn.compute.docker.reference import Reference
from gpufn.compute.docker.spec import INSTALLATION
from gpufn.runtime.clock import loop_now

CALL_TIMEOUT = 60.0
"""Seconds for one ordinary call."""
LIST_TIMEOUT = 15.0
"""Seconds to list containers: what everything that watches instances waits for."""
PULL_STALL = 300.0
"""Seconds a pull may be silent."""
_UNREACHABLE = 900
"""aiodocker's own status for "cannot connect"."""


class Refused(BackendError):
    """The engine understood and said no. ``status`` is its HTTP status, 0 in the middle of a stream."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """The one place where what aiodocker and aiohttp raise becomes BackendError."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == _UNREACHABLE:
            raise BackendError(f"{doing}: the container engine does not answer: {error.message}") from error
        raise Refused(error.status, error.message) from error
    except TimeoutError as error:
        raise BackendError(f"{doing}: the container engine did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise BackendError(f"{doing}: the connection to the container engine broke: {error!r}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{doing}: the container engine's answer is not understood: {error!r}") from error


class Engine:
    """A connection to one engine. Survives its restarts: each call connects anew when it must."""

    def __init__(self, docker: aiodocker.Docker, path: str) -> None:
        self._docker = docker
        self.path = path

    def __repr__(self) -> str:
        return f"<Engine {self.path}>"

    @classmethod
    async def connect(cls, configured: str, docker_host: str) -> Engine:
        """The first engine that answers. Raises BackendError saying what was tried and what came of it."""
        tried = []
        for path in sockets.candidates(configured, docker_host):
            why = sockets.missing(path)
            if not why:
                engine = cls(aiodocker.Docker(url=f"{sockets.UNIX}{path}"), path)
                try:
                    await engine.ping()
                except BackendError as error:
                    await engine.close()
                    why = str(error)
                else:
                    return engine
            tried.append(f"{path} ({why})")
        raise BackendError(
            f"no container engine answers; tried {', '.join(tried)}; start Docker or Podman, or set docker.socket"
        )

    @classmethod
    async def at(cls, endpoint: Endpoint) -> Engine:
        """The engine there. Raises BackendError when it does not answer."""
        engine = cls(client(endpoint), endpoint.url)
        try:
            await engine.ping()
        except BackendError:
            await engine.close()
            raise
        return engine

    async def close(self) -> None:
        """Close the connections."""
        await self._docker.close()

    async def ping(self) -> None:
        """See that it answers."""
        with translated("looking for the engine"):
            async with asyncio.timeout(10.0):
                await self._docker.version()

    async def has_image(self, image: str) -> bool:
        """Whether the image is here already."""
        try:
            with translated("looking for the image"):
                async with asyncio.timeout(CALL_TIMEOUT):
                    await self._docker.images.inspect(image)
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return True

    async def pull(
        self, reference: Reference, auth: Mapping[str, str] | None
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Fetch an image; what the engine tells meanwhile. Ends silently when the engine goes away: look again."""
        with translated(f"pulling {reference}"):
            async with asyncio.timeout(PULL_STALL) as limit:
                async for event in self._docker.images.pull(str(reference), auth=auth, stream=True):
                    limit.reschedule(loop_now() + PULL_STALL)
                    yield event

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """Create a container; one of that name that is there already is taken for it."""
        try:
            with translated("creating a container"):
                async with asyncio.timeout(CALL_TIMEOUT):
                    await self._docker.containers.create(body, name=name)
        except Refused as error:
            if error.status != 409:
                raise

    async def copy_into(self, name: str, archive: bytes) -> bool:
        """Unpack a tar file at ``/`` of a container, running or not; whether there is one of that name."""
        done = False
        with _absent_is_fine(), translated("copying files into a container"):
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._docker.containers.container(name).put_archive("/", archive)  # type: ignore[no-untyped-call]
                done = True
        return done

    async def runs_gpus(self) -> bool:
        """Whether it has NVIDIA's runtime, or knows NVIDIA's devices (CDI), so that containers can be given GPUs."""
        with translated("asking what the engine can"):
            async with asyncio.timeout(CALL_TIMEOUT):
                info = await self._docker.system.info()
        devices = info.get("DiscoveredDevices") or ()
        return "nvidia" in (info.get("Runtimes") or {}) or any("nvidia" in str(d.get("ID")) for d in devices)

    async def start(self, name: str) -> None:
        """Start it, if it does not run."""
        with translated("starting a container"):
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._docker.containers.container(name).start()

    async def stop(self, name: str, *, grace: float) -> None:
        """End it, politely first; it need not exist."""
        with _absent_is_fine(), translated("stopping a container"):
            async with asyncio.timeout(grace + CALL_TIMEOUT):
                await self._docker.containers.container(name).stop(t=max(0, round(grace)))

    async def remove(self, name: str) -> None:
        """Remove it, running or not; it need not exist."""
        with _absent_is_fine(), translated("removing a container"):
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._docker.containers.container(name).delete(force=True, v=True)

    async def containers(self, installation: str) -> list[Mapping[str, Any]]:
        """Every container of ``installation``, running or not, as the engine lists it."""
        filters = json.dumps({"label": [f"{INSTALLATION}={installation}"]})
        with translated("listing containers"):
            async with asyncio.timeout(LIST_TIMEOUT):
                found = await self._docker.containers.list(all=True, filters=filters)
        return [container._container for container in found]  # the library offers no other way to the whole entry

    async def state(self, name: str) -> Mapping[str, Any] | None:
        """The ``State`` of a container; None when there is none."""
        found: Mapping[str, Any] | None = None
        with _absent_is_fine(), translated("inspecting a container"):
            async with asyncio.timeout(CALL_TIMEOUT):
                found = (await self._docker.containers.container(name).show())["State"]
        return found

    async def output(self, name: str, *, follow: bool, tail: int | None) -> AsyncGenerator[bytes, None]:
        """Its output in the engine's frames, each with its time; nothing when it does not exist.

        Read below the library, which drops bytes that are not UTF-8 and loses the limits of frames.
        """
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
        params["tail"] = "all" if tail is None else str(max(0, tail))
        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{name}/logs"
        timeout = aiohttp.ClientTimeout(total=None if follow else CALL_TIMEOUT, sock_connect=10.0)
        with translated("reading a container's output"):
            async with self._docker.session.get(url, params=params, timeout=timeout) as response:
                if response.status == 404:
                    return
                if response.status != 200:
                    raise aiodocker.DockerError(response.status, (await response.text())[:500])
                async for chunk in response.content.iter_any():
                    yield chunk

    async def execute(self, name: str, command: Sequence[str], *, seconds: float) -> ExecResult:
        """Run a command in a container that runs, for at most ``seconds``."""
        with translated("running a command in a container"):
            async with asyncio.timeout(CALL_TIMEOUT):
                made = await self._docker.containers.container(name).exec(
                    list(command), stdout=True, stderr=True, stdin=False, tty=False
                )
            frames = Frames(EXEC_OUTPUT_MAX)
            try:
                async with asyncio.timeout(seconds):
                    await self._read_command(made.id, frames)
            except TimeoutError:
                return frames.result(None)
            async with asyncio.timeout(CALL_TIMEOUT):
                return frames.result((await made.inspect())["ExitCode"])

    async def _read_command(self, exec_id: str, frames: Frames) -> None:
        """Start it, and read what it writes until it ends."""
        url = f"{self._docker.docker_host}/{self._docker.api_version}/exec/{exec_id}/start"
        body = {"Detach": False, "Tty": False}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
        async with self._docker.session.post(url, json=body, timeout=timeout) as response:
            if response.status != 200:
                raise aiodocker.DockerError(response.status, (await response.text())[:500])
            async for chunk in response.content.iter_any():
                frames.feed(chunk)


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        if error.status != 404 and "already in progress" not in error.words:
            raise

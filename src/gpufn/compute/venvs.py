"""Virtual environments for images with requirements: built once per content, kept under the data directory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from gpufn.compute.images import Image
from gpufn.compute.process_tree import BUILD, INSTALLATION

TIMEOUT = 1800.0
"""Seconds one build may take."""
KEPT_LINES = 12
_DONE = ".complete"


class BuildFailed(Exception):
    """The environment could not be built; the text says why, in a sentence for the user."""


class Venvs:
    """Environments by key. Must be used from one loop."""

    def __init__(self, root: Path, installation: str) -> None:
        self._root, self._installation = root, installation
        self._locks: dict[str, asyncio.Lock] = {}

    async def python(self, image: Image) -> Path:
        """The interpreter that has the requirements of ``image``; builds its environment if there is none yet."""
        if image.requirements is None:
            return Path(sys.executable)
        key = _key(image, image.requirements)
        place = self._root / key
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not (place / _DONE).is_file():
                await self._build(image, image.requirements, place)
        return place / "bin" / "python"

    async def _build(self, image: Image, requirements: Path, place: Path) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)  # half of one, from an earlier attempt
        await self._run([sys.executable, "-m", "venv", str(place)], place.name, image)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        if image.requirements_complete:
            pip.append("--no-deps")
        await self._run([*pip, "--progress-bar", "off", "-r", str(requirements)], place.name, image)
        (place / _DONE).touch()

    async def _run(self, command: Sequence[str], key: str, image: Image) -> None:
        """Run one step of a build. It inherits our environment: that is where pip's index and proxies are."""
        marks = [f"{INSTALLATION}={self._installation}", f"{BUILD}={key}"]
        try:
            process = await asyncio.create_subprocess_exec(
                "env",
                *("-u", "PYTHONPATH", "-u", "PYTHONHOME"),
                *marks,
                *command,
                cwd=image.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BuildFailed(f"requirements cannot be installed: {error}") from error
        try:
            async with asyncio.timeout(TIMEOUT):
                lines = await _last_lines(process)
                code = await process.wait()
        except TimeoutError:
            raise BuildFailed(
                f"installing the requirements took longer than {TIMEOUT:.0f} s and was given up"
            ) from None
        finally:
            await _end(process)
        if code != 0:
            raise BuildFailed(
                f"pip could not install {image.requirements}; correct the file or the network, then deploy again; "
                "last lines: " + " | ".join(lines)
            )


def _key(image: Image, requirements: Path) -> str:
    version = f"{sys.implementation.cache_tag} {sys.base_prefix} complete={image.requirements_complete}"
    return hashlib.sha256(version.encode() + b"\0" + requirements.read_bytes()).hexdigest()[:24]


async def _last_lines(process: asyncio.subprocess.Process) -> Sequence[str]:
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    if process.stdout is None:
        return lines
    rest = b""
    while chunk := await process.stdout.read(64 * 1024):
        *complete, rest = (rest + chunk).split(b"\n")
        rest = rest[-4096:]
        lines.extend(text for line in complete if (text := line.decode("utf-8", "replace").strip()[:300]))
    return lines


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

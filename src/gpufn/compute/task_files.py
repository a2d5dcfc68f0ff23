"""The directory that a task sees as ``/var/task``: made before it starts, looked into while it runs, removed with it.

What is in it was written by the task and is not trusted: nothing but regular files is read, no link is followed, and
everything has a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from gpufn.compute.backend import BackendError

RESULTS = "results"
"""Name of the results directory."""
PROGRESS = "progress"
"""Name of the progress file in the results directory (tasks page, section 10)."""
PROGRESS_MAX = 1024 * 1024
"""Largest progress file, in bytes."""
FILES_MAX = 10_000
"""Most files in one result."""
CHUNK = 1024 * 1024
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ITS_OWN_DOING = frozenset({errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENXIO})
"""What can be wrong with a file because its task made it so."""


@dataclass(frozen=True)
class FoundFile:
    """A file below a result's directory. ``path`` is relative to that."""

    path: str
    size: int


class BadFile(Exception):
    """A file of a result that the task has taken away, or closed to us, or made a link."""


class TooManyFiles(Exception):
    """A result has more files than are kept."""


class TaskFiles(Protocol):
    """The directories of tasks, by task id. Raises BackendError for a disk that cannot be used now."""

    async def prepare(self, task_id: str) -> str:
        """See that the directory is there, without a progress file of an earlier attempt; returns its path."""
        ...

    async def progress(self, task_id: str) -> bytes | None:
        """The progress file; None where there is none. Longer than PROGRESS_MAX is cut off."""
        ...

    async def files(self, task_id: str, name: str) -> Sequence[FoundFile] | None:
        """What is below the results directory's folder ``name``, or below all of it when that is empty, without the
        progress file. None where there is no such folder; raises TooManyFiles.
        """
        ...

    def read(self, task_id: str, name: str, path: str) -> AsyncIterator[bytes]:
        """The content of one of those files, in pieces; raises BadFile."""
        ...

    async def remove(self, task_id: str) -> None:
        """Delete everything of the task."""
        ...


class LocalTaskFiles:
    """Directories of this machine, below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def prepare(self, task_id: str) -> str:
        """Open to every user of a container; ``root`` itself is ours alone."""
        directory = self._root / task_id
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(exist_ok=True)
            directory.chmod(0o777)
            _prepare_results(directory)
        except OSError as error:
            raise BackendError(f"{directory} cannot be prepared: {error}") from error
        return str(directory)

    async def progress(self, task_id: str) -> bytes | None:
        """Read on the loop's thread: it is small, and asked for often."""
        try:
            with _open(self._results(task_id), PROGRESS) as file:
                return file.read(PROGRESS_MAX)
        except OSError as error:
            if error.errno in ITS_OWN_DOING:
                return None
            raise BackendError(f"the progress file of task {task_id} cannot be read: {error}") from error

    async def files(self, task_id: str, name: str) -> Sequence[FoundFile] | None:
        """In the order of their paths."""
        try:
            return await asyncio.to_thread(_list, self._results(task_id), name)
        except OSError as error:
            raise BackendError(f"the results of task {task_id} cannot be read: {error}") from error

    async def read(self, task_id: str, name: str, path: str) -> AsyncIterator[bytes]:
        """In a thread: files may be large."""
        try:
            with await asyncio.to_thread(_open, self._results(task_id), f"{name}/{path}" if name else path) as file:
                while piece := await asyncio.to_thread(file.read, CHUNK):
                    yield piece
        except OSError as error:
            if error.errno in ITS_OWN_DOING:
                raise BadFile(f"{path}: {error.strerror}") from error
            raise BackendError(f"the file {path!r} of task {task_id} cannot be read: {error}") from error

    async def remove(self, task_id: str) -> None:
        """What another user owns stays, and is taken up again at the next look."""
        await asyncio.to_thread(shutil.rmtree, self._root / task_id, ignore_errors=True)

    def _results(self, task_id: str) -> Path:
        return self._root / task_id / RESULTS


def _open(results: Path, relative: str) -> BinaryIO:
    """A regular file of the task; nothing that is a link or lies behind one, and nothing that would make us wait."""
    path = results / relative
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    # The descriptor's own path is looked at: a folder may have become a link since it was listed.
    opened = Path(f"/proc/self/fd/{descriptor}")
    where = (opened if opened.exists() else path).resolve()
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _within(where, results):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a regular file of the task", str(path))
    return os.fdopen(descriptor, "rb")


def _prepare_results(directory: Path) -> None:
    """An earlier attempt may have put anything into ``directory``, a link out of it as well: none is followed."""
    top = os.open(directory, DIRECTORY)
    try:
        results = _folder(top, RESULTS)
    finally:
        os.close(top)
    try:
        os.fchmod(results, 0o777)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(PROGRESS, dir_fd=results)
    finally:
        os.close(results)


def _folder(top: int, name: str) -> int:
    """The folder ``name`` of an open directory, in place of whatever else has that name; its descriptor."""
    try:
        return os.open(name, DIRECTORY, dir_fd=top)
    except NotADirectoryError:
        os.unlink(name, dir_fd=top)
    except FileNotFoundError:
        pass
    os.mkdir(name, dir_fd=top)
    return os.open(name, DIRECTORY, dir_fd=top)


def _within(where: Path, results: Path) -> bool:
    return where.is_relative_to(results.parent.resolve() / results.name)


def _list(results: Path, name: str) -> Sequence[FoundFile] | None:
    top = results / name
    if not top.is_dir() or not _within(top.resolve(), results):
        return None
    found = []
    for path in _regular(top):
        relative = path.relative_to(top).as_posix()
        if not name and relative == PROGRESS:
            continue
        found.append(FoundFile(relative, path.stat(follow_symlinks=False).st_size))
        if len(found) > FILES_MAX:
            raise TooManyFiles(f"more than {FILES_MAX} files in result {name!r}; put them into an archive")
    return sorted(found, key=lambda file: file.path)


def _regular(top: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(top, followlinks=False):
        for name in names:
            path = Path(directory) / name
            if stat.S_ISREG(path.stat(follow_symlinks=False).st_mode):
                yield path

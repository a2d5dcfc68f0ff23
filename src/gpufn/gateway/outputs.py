"""Where an instance leaves what belongs to one request beside its response: a progress file, and files of the result.

Each request has a directory of its own, ``response/<request id>`` in what the instance shares with the platform
(invocation-plane page, sections 8.2 and 8.3). It has to be there before the request is, and most requests leave it
empty. Making one costs a hundred microseconds on a disk, renaming one ten: so one in which nothing was ever written is
used again under the next request's name. Its time of modification is set to zero when it is made, and whoever writes
changes that: one look tells.

The instance owns that directory and may have put anything in it, a link out of it as well: every step goes through a
directory opened before it and follows no link.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpufn.gateway.archive import DIRECTORY, FILE, PROGRESS, Unpackable, has_files

RESPONSE = "response"
TAKEN = "results"
PROGRESS_MAX = 1024 * 1024
"""Largest progress file that is read, in bytes."""
SPARE_MAX = 256
"""Directories kept for the next requests of one instance."""
UINT64_MAX = 2**64 - 1


@dataclass(frozen=True)
class Progress:
    """What a progress file says: ``body`` is the partial response as JSON; ``at`` tells one version from another."""

    percent: int
    body: bytes
    at: int


class Outputs:
    """The directories of one instance. ``later`` runs what may block, some time. Without a directory of the instance
    on this machine nothing happens, and nothing is ever found.
    """

    def __init__(self, shared: Path, later: Callable[[Callable[[], None]], None]) -> None:
        self._shared = shared
        self._later = later
        self._spare: list[str] = []
        self._root = _opened(shared)

    def begin(self, name: str) -> bool:
        """Have an empty directory called ``name``; False when there can be none."""
        root = self._root
        if root < 0:
            return False
        try:
            while self._spare:
                spare = self._spare.pop()
                if not self.changed(spare):
                    os.rename(spare, name, src_dir_fd=root, dst_dir_fd=root)
                    return True
                self._discard(spare)  # somebody wrote into it after the end of its request
            return self._make(root, name)
        except OSError:
            return self._make_anew(root, name)

    def changed(self, name: str) -> bool:
        """Whether anything was ever written in the directory ``name``, or it is none any more."""
        try:
            return os.stat(name, dir_fd=self._root, follow_symlinks=False).st_mtime_ns != 0
        except OSError:
            return False  # the instance has removed it: there is nothing in it

    def has_files(self, name: str) -> bool:
        """Whether there is a file of the result among what was written in the directory ``name``."""
        try:
            directory = os.open(name, DIRECTORY, dir_fd=self._root)
            try:
                return has_files(directory)
            finally:
                os.close(directory)
        except OSError:
            return False
        except Unpackable:
            return True  # what is wrong with it is said when it is packed

    def end(self, name: str, *, unused: bool) -> None:
        """Its request is over. ``unused``: it ended in order, and ``changed`` was denied."""
        if unused and len(self._spare) < SPARE_MAX:
            self._spare.append(name)
        else:
            self._discard(name)

    def progress(self, name: str, after: int) -> Progress | None:
        """What the progress file of a request says, if it was written after the one known by ``after``."""
        try:
            found = os.stat(f"{name}/{PROGRESS}", dir_fd=self._root, follow_symlinks=False)
            if found.st_mtime_ns <= after or not stat.S_ISREG(found.st_mode) or found.st_size > PROGRESS_MAX:
                return None
            directory = os.open(name, DIRECTORY, dir_fd=self._root)
            try:
                file = os.open(PROGRESS, FILE, dir_fd=directory)
            finally:
                os.close(directory)
            with os.fdopen(file, "rb", buffering=0) as source:
                at, raw = os.fstat(file), source.read(PROGRESS_MAX + 1) or b""
        except OSError:
            return None
        return parsed(raw, name, at.st_mtime_ns) if stat.S_ISREG(at.st_mode) else None

    def take(self, name: str) -> Path:
        """Move what is in the directory of a request out of the instance's sight; where it is now. Raises OSError."""
        kept = self._shared.parent / TAKEN
        kept.mkdir(mode=0o700, exist_ok=True)
        taken = kept / name
        shutil.rmtree(taken, ignore_errors=True)  # an earlier attempt's
        os.rename(name, taken, src_dir_fd=self._root)
        return taken

    def close(self) -> None:
        """The instance is not ours any more; the directories go with it."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _make(self, root: int, name: str) -> bool:
        os.mkdir(name, dir_fd=root)
        directory = os.open(name, DIRECTORY, dir_fd=root)
        try:
            os.fchmod(directory, 0o777)  # the instance may run as any user (section 10.2)
            os.utime(directory, ns=(0, 0))
        finally:
            os.close(directory)
        return True

    def _make_anew(self, root: int, name: str) -> bool:
        """What was there under that name, or what we had of spare ones, is of no use."""
        self._spare.clear()
        try:
            shutil.rmtree(name, ignore_errors=True, dir_fd=root)
            return self._make(root, name)
        except OSError:
            return False

    def _discard(self, name: str) -> None:
        root = self._root

        def remove() -> None:
            if self._root >= 0:
                shutil.rmtree(name, ignore_errors=True, dir_fd=root)

        self._later(remove)


def parsed(raw: bytes, request_id: str, at: int) -> Progress | None:
    """A progress file's content; None when it is not one of that request (section 8.2)."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("id") != request_id:
        return None
    percent, partial = document.get("progress", 0), document.get("partialResponse")
    if type(percent) is not int or not 0 <= percent <= UINT64_MAX:
        return None
    if partial is not None and not isinstance(partial, dict):
        return None
    return Progress(percent, json.dumps(partial, separators=(",", ":")).encode(), at)


def _opened(shared: Path) -> int:
    """The directory of all requests' directories, made if it is not there; -1 when there is none."""
    try:
        root = os.open(shared, DIRECTORY)
    except OSError:
        return -1
    try:
        try:
            return os.open(RESPONSE, DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            os.mkdir(RESPONSE, dir_fd=root)
            found = os.open(RESPONSE, DIRECTORY, dir_fd=root)
            os.fchmod(found, 0o777)
            return found
    except OSError:
        return -1
    finally:
        os.close(root)

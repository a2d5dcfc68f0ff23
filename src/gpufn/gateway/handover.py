"""Files for an instance: written into the directory it shares with the platform, and removed after the call.

The instance owns that directory and may have put anything in it, a link out of it as well. So every step goes through
the directory opened before it and follows no link. These functions block: call them in a thread.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

INPUT = "inputAssets"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def begin(shared: Path, request_id: str) -> int:
    """An empty directory for the files of one request; its descriptor, which the caller closes. Raises OSError."""
    parent = _parent(shared)
    try:
        shutil.rmtree(request_id, ignore_errors=True, dir_fd=parent)
        os.mkdir(request_id, dir_fd=parent)
        found = os.open(request_id, DIRECTORY, dir_fd=parent)
    finally:
        os.close(parent)
    os.fchmod(found, 0o777)  # the instance may run as any user (invocation-plane page, section 8.1)
    return found


def create(directory: int, name: str) -> int:
    """A new file in ``directory`` that everybody may read; its descriptor. Raises OSError."""
    found = os.open(name, FRESH, 0o644, dir_fd=directory)
    os.fchmod(found, 0o644)
    return found


def remove(shared: Path, request_id: str) -> None:
    """Remove what was there for one request, as far as that is possible: the rest goes with the instance."""
    try:
        parent = _parent(shared)
    except OSError:
        return
    try:
        shutil.rmtree(request_id, ignore_errors=True, dir_fd=parent)
    finally:
        os.close(parent)


def _parent(shared: Path) -> int:
    """The directory of all requests' files, made if it is not there."""
    root = os.open(shared, DIRECTORY)
    try:
        try:
            return os.open(INPUT, DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            os.mkdir(INPUT, dir_fd=root)
            found = os.open(INPUT, DIRECTORY, dir_fd=root)
            os.fchmod(found, 0o777)
            return found
    finally:
        os.close(root)

"""The data directory: who may use it, what lies where in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

from gpufn.auth.keyring import Keyring
from gpufn.auth.tokens import new_keys
from gpufn.model.errors import Fatal

SOCKET_PATH_MAX = 100
"""Unix socket paths end at 107 bytes on Linux and 103 on macOS."""

KEYS = ("pepper", "admin.key", "master.keys", "signing.json")
"""What cannot be made again: whoever has these files can call the API as its owner, and read every secret."""


class DataDirectory:
    """Paths below one directory, mode 0700. ``lock`` makes this process its only user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / "gpufn.db"
        self.images = root / "images"
        self.objects = root / "objects"
        self.instances = root / "instances"
        self.tasks = root / "tasks"
        self.running = root / "running.json"
        self.admin_key = root / "admin.key"
        self.tls = root / "tls"
        self._pepper = root / "pepper"
        self._signing = root / "signing.json"
        self._lock = -1
        sockets = root if len(str(root / "control.sock").encode()) <= SOCKET_PATH_MAX else _short(root)
        self.control_socket = sockets / "control.sock"
        self.feed_socket = sockets / "feed.sock"

    def prepare(self) -> None:
        """Create what is missing and take the lock. Raises Fatal with exit code 4 when that cannot be."""
        try:
            for directory in (self.root, self.control_socket.parent):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                if directory != self.root:
                    _require_own(directory)
                directory.chmod(0o700)
            self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Fatal(
                f"the data directory {self.root} cannot be used: {error.strerror}; choose another with --data",
                exit_code=4,
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Fatal(
                f"another gpufn runs on {self.root} already; stop it, or choose another directory with --data",
                exit_code=4,
            ) from error

    def release(self) -> None:
        """Give up the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def pepper(self) -> bytes:
        """The secret under which keys are hashed; made at first use."""
        if not self._pepper.exists():
            write(self._pepper, os.urandom(32))
        return self._pepper.read_bytes()

    def keyring(self) -> Keyring:
        """The master keys under which secrets are sealed; made at first use. Raises Fatal when they are damaged."""
        path = self.root / "master.keys"
        return Keyring.load(path.read_bytes() if path.exists() else None, lambda content: write(path, content))

    def signing_keys(self) -> str:
        """The private keys that tokens are signed with; made at first use."""
        if not self._signing.exists():
            write(self._signing, new_keys().encode())
        return self._signing.read_text()

    def announce(self, facts: dict[str, object]) -> None:
        """Tell the CLI where we are."""
        write(self.running, json.dumps(facts).encode())


def write(path: Path, content: bytes) -> None:
    """Replace a private file in one step: readers see the old content or the new, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _require_own(directory: Path) -> None:
    """Raises Fatal for a link, or what another user made: it lies where everybody may write, and its owner could put
    sockets of their own there, to which our gateways would hand every request.
    """
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Fatal(
            f"{directory}, where the sockets of this data directory belong, was made by somebody else; remove it, or "
            "choose a data directory with a shorter path with --data",
            exit_code=4,
        )


def _short(root: Path) -> Path:
    """A private directory whose path is short enough, the same for every process of this installation."""
    mark = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gpufn-{os.getuid()}-{mark}"

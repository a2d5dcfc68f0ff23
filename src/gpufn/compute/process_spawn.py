"""From an image and a request to a running process: its command, variables, directories and ports.

A process is *no security boundary*: it runs as our own user and can read what we can. Bubblewrap, where it works,
gives it private ``/var/inf``, ``/var/secrets`` and ``/tmp`` as it would find them in a container, and nothing more.
"""

from __future__ import annotations

import asyncio
import errno
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufn.compute.backend import BackendError, LaunchRequest
from gpufn.compute.catalog import Catalog
from gpufn.compute.environment import TASK_DIR, platform_environment
from gpufn.compute.images import BrokenImage, Image
from gpufn.compute.process_record import Record
from gpufn.compute.process_tree import INSTALLATION, INSTANCE
from gpufn.model.instance import Failure, FailureKind

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG = "C.UTF-8"
UNBUFFERED = "PYTHONUNBUFFERED"


class CannotStart(Exception):
    """The instance cannot be started; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Directories:
    """The private directories of one instance."""

    root: Path
    task: Path | None = None
    """What a container sees as /var/task, for a task."""

    @property
    def inf(self) -> Path:
        """What a container sees as /var/inf."""
        return self.root / "inf"

    @property
    def secrets(self) -> Path:
        """What a container sees as /var/secrets."""
        return self.root / "secrets"

    @property
    def exit_code(self) -> Path:
        """Where a task's exit code is kept."""
        return self.root / "exit-code"

    @property
    def temporary(self) -> Path:
        """TMPDIR, and /tmp under bubblewrap."""
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        """HOME."""
        return self.root / "home"

    @property
    def mounts(self) -> list[tuple[Path, str]]:
        """What bubblewrap shows, and where."""
        task = [] if self.task is None else [(self.task, TASK_DIR)]
        return [(self.inf, "/var/inf"), (self.secrets, "/var/secrets"), *task]

    def create(self) -> None:
        """Make them, for the owner alone."""
        for path in (self.inf / "inputAssets", self.inf / "response", self.secrets, self.temporary, self.home):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.chmod(0o700)

    def give_to(self, other: Directories) -> None:
        """Become ``other``: its directories are replaced by these, only its secrets are taken over. Raises OSError."""
        for path in other.secrets.iterdir():
            shutil.copy(path, self.secrets / path.name)
        for own, theirs in (
            (self.inf, other.inf),
            (self.secrets, other.secrets),
            (self.temporary, other.temporary),
            (self.home, other.home),
        ):
            shutil.rmtree(theirs)
            own.rename(theirs)


def find_image(catalog: Catalog, reference: str) -> Image:
    """The image of that name; raises CannotStart."""
    try:
        image = catalog.find(reference)
    except BrokenImage as error:
        raise CannotStart(Failure(FailureKind.IMAGE, error.message, permanent=True)) from error
    if image is None:
        words = f"no image {reference!r} in the local catalog; add it with `gpufn image add DIR`"
        raise CannotStart(Failure(FailureKind.IMAGE, words, permanent=True))
    return image


def free_ports(count: int, *, taken: Collection[int]) -> list[int]:
    """``count`` loopback ports that nobody listens on, none of ``taken`` (instances that do not listen yet)."""
    sockets: list[socket.socket] = []
    found: list[int] = []
    try:
        for _ in range(1000):
            if len(found) == count:
                return found
            sockets.append(socket.socket())
            sockets[-1].bind(("127.0.0.1", 0))
            port = int(sockets[-1].getsockname()[1])
            if port not in taken:
                found.append(port)
    except OSError as error:
        raise CannotStart(Failure(FailureKind.CAPACITY, f"no loopback port is free: {error.strerror}")) from error
    finally:
        for each in sockets:
            each.close()
    raise CannotStart(Failure(FailureKind.CAPACITY, "no loopback port is free; stop other instances"))


def command(image: Image, request: LaunchRequest, *, python: Path, record: Record) -> list[str]:
    """The program and its arguments; ``containerArgs`` replaces the image's default arguments."""
    try:
        args = image.args if request.args is None else tuple(shlex.split(request.args))
    except ValueError as error:
        raise CannotStart(
            Failure(FailureKind.START, f"containerArgs: {request.args!r} cannot be split: {error}", permanent=True)
        ) from error
    values = {"{python}": str(python), "{port}": str(record.port), "{health_port}": str(record.health_port)}
    return [_fill(part, values) for part in (*image.command, *args)]


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def environment(image: Image, record: Record, *, python: Path, directories: Directories, mark: str) -> dict[str, str]:
    """All variables of the process; later ones win: ours to begin with, the image's, the user's, the platform's."""
    request = record.request
    found = {
        "PATH": f"{python.parent}:{SYSTEM_PATH}",
        "LANG": LANG,
        "HOME": str(directories.home),
        "TMPDIR": str(directories.temporary),
        UNBUFFERED: "1",  # so that what it prints is in the log at once
    }
    found |= dict(image.environment)
    if request is not None:
        task_dir = TASK_DIR if record.isolated else str(directories.task)
        found |= dict(request.environment) | platform_environment(request, task_dir=task_dir)
    return found | {
        "PORT": str(record.port),
        "HEALTH_PORT": str(record.health_port),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, record.devices)),  # empty hides them all
        INSTANCE: record.id,
        INSTALLATION: mark,
    }


_KEEP_EXIT_CODE = """
trap : TERM INT HUP
file=$1; shift
"$@"
code=$?
printf %s "$code" >"$file.new" && mv "$file.new" "$file"
exit "$code"
"""


def keeping_exit_code(file: Path, command: Sequence[str]) -> list[str]:
    """``command`` under a shell that writes down its exit code, so that a gpufn that was away at its end learns it."""
    return ["/bin/sh", "-c", _KEEP_EXIT_CODE, "gpufn-task", str(file), *command]


def whole(command: Sequence[str], directories: Directories) -> Sequence[str]:
    """What is run: of a task the exit code is kept."""
    return command if directories.task is None else keeping_exit_code(directories.exit_code, command)


def exit_code(root: Path, code: int | None) -> int | None:
    """What ``keeping_exit_code`` wrote below ``root``, negative for a signal; ``code`` where it has written nothing."""
    try:
        kept = int(Directories(root).exit_code.read_text())
    except (OSError, ValueError):
        return code
    return 128 - kept if kept > 128 else kept  # a shell's way to name a signal


def check_program(program: str, *, path: str, cwd: Path) -> None:
    """Raises CannotStart when the program does not exist or may not be run."""
    place = str(cwd / program) if "/" in program else program
    if shutil.which(place, path=path) is None:
        words = f"{program!r} was not found, or is not executable; correct `command` in function.toml"
        raise CannotStart(Failure(FailureKind.START, words, permanent=True))


async def uses_bubblewrap(isolation: str) -> bool:
    """What ``process.isolation`` comes to on this machine; raises BackendError when it asks for what is not here."""
    if isolation not in ("auto", "bubblewrap", "none"):
        raise BackendError(f"process.isolation = {isolation!r}: use auto, bubblewrap or none")
    works = isolation != "none" and await asyncio.to_thread(bubblewrap_works)
    if isolation == "bubblewrap" and not works:
        raise BackendError("process.isolation = bubblewrap, but bwrap does not work here: install it, or use auto")
    return works


def bubblewrap_works() -> bool:
    """Whether bwrap is installed and may make namespaces here. Takes milliseconds: call it in a thread."""
    program = shutil.which("bwrap", path=SYSTEM_PATH)
    if program is None:
        return False
    try:
        done = subprocess.run([program, "--dev-bind", "/", "/", "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def bubblewrap(directories: Directories, *, cwd: Path, keep: Sequence[Path]) -> list[str]:
    """The bwrap prefix: the machine as it is, but with the instance's own /var/inf, /var/secrets and /tmp.

    ``keep`` lists directories that must stay visible even when they lie below /tmp.
    """
    wrap = [str(shutil.which("bwrap", path=SYSTEM_PATH))]
    for entry in sorted(Path("/").iterdir()):
        if entry.name not in ("tmp", "var"):
            wrap += _shown(entry)
    wrap += ["--dir", "/var"]
    for entry in sorted(Path("/var").iterdir()):
        if entry.name not in ("inf", "secrets", "task"):
            wrap += _shown(entry)
    for source, target in directories.mounts:
        wrap += ["--bind", str(source), target]
    wrap += ["--bind", str(directories.temporary), "/tmp"]  # noqa: S108  (it is a private one)
    for path in dict.fromkeys((*keep, cwd)):
        if path.is_relative_to("/tmp"):  # noqa: S108
            wrap += ["--bind", str(path), str(path)]
    return [*wrap, "--chdir", str(cwd), "--"]


def _shown(entry: Path) -> list[str]:
    if entry.is_symlink():
        return ["--symlink", str(entry.readlink()), str(entry)]
    return ["--dev-bind-try", str(entry), str(entry)]


def interpreter_directories(python: Path) -> list[Path]:
    """Where the interpreter and its packages are."""
    return [python.parent.parent, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parent.parent]


def spawn(command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: int) -> int:
    """Start it in a session of its own, with ``log`` as its output; returns its pid. Raises CannotStart."""
    try:
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        words = f"{command[0]!r} cannot be run: {error.strerror}; correct `command` in function.toml"
        raise CannotStart(Failure(FailureKind.START, words, permanent=True)) from error
    except ValueError as error:  # a name or a value that no environment can hold
        raise CannotStart(
            Failure(FailureKind.START, f"{command[0]!r} cannot be started: {error}", permanent=True)
        ) from error
    except OSError as error:
        broken = error.errno in (errno.ENOEXEC, errno.E2BIG)
        words = f"{command[0]!r} cannot be started: {error.strerror}"
        raise CannotStart(Failure(FailureKind.START, words, permanent=broken)) from error
    process.returncode = 0  # its end is seen through its pid, also by a later gpufn: the object must not wait for it
    return process.pid

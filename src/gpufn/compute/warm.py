"""Interpreters that are started before anybody needs them, for functions that are plain Python programs.

Starting Python and loading its standard library is most of what a small function takes to start. Each warm interpreter
runs as an instance would, in a session and under bubblewrap with directories of its own, which become the instance's.
What a warm interpreter cannot be as well as a new one is started anew: see ``fits``.

One that waits is marked as belonging to no instance. It ends when the socket to its master closes, however that came
about; one that does not (it was stopped, it hangs) is ended by the next gpufn, which finds it by its mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufn.compute import process_tree, warm_interpreter
from gpufn.compute.isolation import Isolation
from gpufn.compute.process_spawn import LANG, SYSTEM_PATH, UNBUFFERED, Directories
from gpufn.model.ids import new_id
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger

log = get_logger("warm")

PYTHON = Path(sys.executable)
ORDER_MAX = 64 * 1024
"""Bytes of an order: it must fit into a socket's buffer, as nobody waits."""
ROOM = 32 * 1024
"""Bytes of variables that can be shown in place of those it began with."""
ARGUMENTS_ROOM = 4 * 1024
"""The same for its arguments, as ``ps`` shows them."""
QUIET = 1.0
"""Seconds after the last start before another one is warmed: it is not to be in the way of that start."""
BEFORE_MAIN = ("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_", "OPENSSL_")
"""Variables that begin so are read before a program begins, so that setting them later has no effect."""


@dataclass(frozen=True)
class Order:
    """Which program to be, with its arguments, its variables and where it runs."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: Path


class Warm:
    """An interpreter that waits, or has just become somebody."""

    def __init__(self, process: subprocess.Popen[bytes], master: socket.socket, directories: Directories) -> None:
        self.pid, self.created = process.pid, process_tree.created(process.pid)
        self.directories = directories
        self.loaded: frozenset[str] | None = None
        """The top-level modules that it has loaded; None while it is not ready."""
        self._process, self._master, self._said = process, master, b""

    def watch(self, told: Callable[[], None]) -> None:
        """Call ``told`` when something is heard of it."""
        asyncio.get_running_loop().add_reader(self._master, told)

    def hear(self) -> bool:
        """Take what it says; False when it has ended."""
        try:
            said = self._master.recv(ORDER_MAX)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._said += said
        if self._said.endswith(warm_interpreter.END):
            self.loaded = frozenset(self._said.decode().split())
        return bool(said)

    def be(self, order: Order, *, log: int, directories: Directories) -> bool:
        """Become this program in these directories, of which only the secrets have content. ``log`` is a descriptor
        that is its output; it stays the caller's to close. False when it has ended meanwhile. Raises OSError for
        directories that cannot be given away.
        """
        self.directories.give_to(directories)
        content = _content(order)
        try:
            socket.send_fds(self._master, [warm_interpreter.HEAD.pack(len(content))], [log])
            self._master.sendall(content)
        except OSError:
            self.end()
            return False
        self._process.returncode = 0  # its end is seen through its pid, as that of every instance
        self._let_go()
        return True

    def end(self) -> None:
        """It is not needed, or has ended."""
        self._let_go()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _let_go(self) -> None:
        if self._master.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            self._master.close()
        shutil.rmtree(self.directories.root, ignore_errors=True)


def _content(order: Order) -> bytes:
    content = {
        "arguments": list(order.arguments[1:]),
        "environment": dict(order.environment),
        "directory": str(order.directory),
    }
    return json.dumps(content).encode()


def fits(order: Order, *, visible: Sequence[Path], loaded: frozenset[str]) -> bool:
    """Whether a warm interpreter can be this program: ``python script.py …`` of our own interpreter, nothing in the
    environment that had to be there from the start, and no module of its own by the name of one that is ``loaded``.
    ``visible``: the directories below /tmp that it can see.
    """
    arguments, environment, directory = order.arguments, order.environment, order.directory
    if len(arguments) < 2 or arguments[0] != str(PYTHON) or not arguments[1].endswith(".py"):
        return False
    early = {n: v for n, v in environment.items() if n.startswith(BEFORE_MAIN)}
    if early != {UNBUFFERED: "1"} or environment.get("LANG") != LANG:
        return False
    if len(_content(order)) > ORDER_MAX or sum(len(os.fsencode(f"{n}={v}")) + 1 for n, v in environment.items()) > ROOM:
        return False
    if directory.is_relative_to("/tmp") and not any(directory.is_relative_to(path) for path in visible):  # noqa: S108
        return False
    try:
        own = {path.name.partition(".")[0] for path in (directory / arguments[1]).parent.iterdir()}
    except OSError:
        return False
    return not own & loaded


class WarmPool:
    """Keeps ``size`` of them below ``root``, which is on the same file system as the instances' directories."""

    def __init__(self, root: Path, *, size: int, installation: str, isolation: Isolation) -> None:
        self._root, self._size, self.installation, self._isolation = root, size, installation, isolation
        self._program = (root / Path(warm_interpreter.__file__).name).absolute()
        self.waiting: list[Warm] = []
        self._changed = asyncio.Event()
        self._taken_at = float("-inf")
        self._ended_early = 0
        """How many have ended in a row before they were ready."""

    def __repr__(self) -> str:
        return f"<WarmPool {self.ready()} of {self._size}>"

    def ready(self) -> int:
        """How many could be somebody at once."""
        return sum(each.loaded is not None for each in self.waiting)

    async def run(self) -> None:
        """Keep it filled until cancelled; then end those that are left."""
        try:
            await asyncio.to_thread(self._begin)
            while self._size:
                self._changed.clear()
                while len(self.waiting) < self._size and self._pause() <= 0:
                    self._start()
                with contextlib.suppress(TimeoutError):
                    pause = self._pause() if len(self.waiting) < self._size else None
                    await asyncio.wait_for(self._changed.wait(), pause)
        except OSError as error:  # a convenience: without it instances start as they always did
            log.warning("no interpreters are warmed", error=str(error))
        finally:
            for warm in self.waiting:
                warm.end()
            self.waiting.clear()
            shutil.rmtree(self._root, ignore_errors=True)

    def take(self, order: Order) -> Warm | None:
        """One that can be this program, for the caller to tell it so; None when there is none."""
        self._taken_at = loop_now()
        visible = self._isolation.visible(PYTHON)
        for warm in self.waiting:
            if warm.loaded is not None and fits(order, visible=visible, loaded=warm.loaded):
                self.waiting.remove(warm)
                self._changed.set()
                return warm
        return None

    def _begin(self) -> None:
        """Nothing of an earlier one; and the program where a sandbox sees it, even if we are installed below /tmp."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._size:
            self._root.mkdir(mode=0o700, parents=True)
            shutil.copy(warm_interpreter.__file__, self._program)

    def _pause(self) -> float:
        """Seconds until the next one may be started."""
        return self._taken_at + max(QUIET, Backoff().delay(self._ended_early)) - loop_now()

    def _start(self) -> None:
        directories = Directories(self._root / new_id())
        directories.create()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        program = [str(PYTHON), str(self._program), "-" * ARGUMENTS_ROOM]
        environment = {
            "PATH": f"{PYTHON.parent}:{SYSTEM_PATH}",
            "LANG": LANG,
            "HOME": str(directories.home),  # so that nothing of ours below ~/.local is found
            UNBUFFERED: "1",
            process_tree.INSTANCE: process_tree.WAITING,
            process_tree.INSTALLATION: self.installation,
            "GPUFN_ROOM": "-" * ROOM,
        }
        with theirs:
            process = subprocess.Popen(
                [*self._isolation.wrap(directories, cwd=Path("/"), python=PYTHON), *program],
                env=environment,
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        warm = Warm(process, ours, directories)
        self.waiting.append(warm)
        warm.watch(lambda: self._told(warm))

    def _told(self, warm: Warm) -> None:
        if warm.hear():
            self._ended_early = 0 if warm.loaded is not None else self._ended_early
            return
        log.warning("a waiting interpreter has ended", pid=warm.pid)
        self.waiting.remove(warm)
        warm.end()
        self._ended_early += 1
        self._taken_at = loop_now()
        self._changed.set()

"""Finding and ending the processes of an instance.

Every process of an instance carries two variables from its start, ``GPUFN_INSTALLATION`` and ``GPUFN_INSTANCE_ID``,
which its children inherit. They are how a new gpufn finds what an earlier one, killed at any moment, left running. A
process that clears its environment is still found through the session of the instance or through its parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from gpufn.model.ids import InstanceId
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.runtime.log import get_logger

log = get_logger("processes")

INSTALLATION = "GPUFN_INSTALLATION"
INSTANCE = "GPUFN_INSTANCE_ID"
BUILD = "GPUFN_BUILD"
"""Marks the building of a virtual environment instead of an instance."""
WAITING = "a-warm-interpreter"
"""In place of an instance's id: the mark of an interpreter that waits to become one."""
POLL = 0.02
KILL_PATIENCE = 10.0
"""Seconds after which a process that even SIGKILL does not end is reported and left."""
COMMAND = "GPUFN_COMMAND"
"""The variable of a command that was run beside an instance: its session is not the instance's."""


@dataclass(frozen=True)
class Leader:
    """The first process of an instance, which began its session. ``pid`` 0: it never had one."""

    pid: int
    created: float

    @property
    def replaced(self) -> bool:
        """Whether its number is now a stranger's, whose session must be left alone."""
        return psutil.pid_exists(self.pid) and not _same(self.pid, self.created)


@dataclass(frozen=True)
class Marked:
    """A live process that carries the mark of this installation."""

    process: psutil.Process
    environ: Mapping[str, str]

    @property
    def leads(self) -> bool:
        """Whether it is the first process of its instance: each instance begins with a session of its own."""
        return session(self.process.pid) == self.process.pid and COMMAND not in self.environ


def marked(installation: str) -> Iterator[Marked]:
    """Every live process of this installation. Reads all of /proc: call it in a thread."""
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue  # gone, or another user's
        if environ.get(INSTALLATION) == installation and not gone(process):
            yield Marked(process, environ)


def by_instance(installation: str) -> dict[InstanceId, list[Marked]]:
    """The live processes of each instance of this installation."""
    found: dict[InstanceId, list[Marked]] = {}
    for each in marked(installation):
        if each.environ.get(INSTANCE, WAITING) != WAITING:
            found.setdefault(InstanceId(each.environ[INSTANCE]), []).append(each)
    return found


def builders(installation: str) -> list[psutil.Process]:
    """Builds that an earlier gpufn began."""
    return [each.process for each in marked(installation) if BUILD in each.environ]


def waiting(installation: str, *, besides: Collection[int]) -> list[psutil.Process]:
    """Interpreters that wait for an earlier gpufn. What leads the session of one that has become somebody keeps its
    mark: it is left alone, as are those ``besides``, by their pids.
    """
    sessions: dict[int, list[Marked]] = {}
    for each in marked(installation):
        sessions.setdefault(session(each.process.pid), []).append(each)
    return [
        each.process
        for leader, own in sessions.items()
        if leader not in besides and all(each.environ.get(INSTANCE) == WAITING for each in own)
        for each in own
    ]


def members(installation: str, instance_id: InstanceId, leader: Leader) -> list[psutil.Process]:
    """Every live process of one instance: marked, in the session that ``leader`` began, or a descendant of those."""
    found = {each.process for each in by_instance(installation).get(instance_id, ())}
    if leader.pid and not leader.replaced:
        found |= {process for process in psutil.process_iter() if session(process.pid) == leader.pid}
    for process in list(found):
        try:
            found |= set(process.children(recursive=True))
        except psutil.Error:
            continue
    return [process for process in found if not gone(process)]


def session(pid: int) -> int:
    """The session of a process; 0 when it is gone or not to be seen."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def gone(process: psutil.Process) -> bool:
    """Whether it has ended. A zombie has, though its number is still taken."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def find(pid: int, created: float) -> psutil.Process | None:
    """The live process of that number that began at ``created``; None when it is gone or another has its number."""
    if not _same(pid, created):
        return None
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return None
    return None if gone(process) else process


def _same(pid: int, created: float) -> bool:
    try:
        # The kernel counts from the boot, whose moment on the wall clock moves a little.
        return abs(psutil.Process(pid).create_time() - created) < 1.0
    except psutil.Error:
        return False


def reap(pid: int) -> int | None:
    """The exit code of an ended child of ours, negative for a signal; None when it is not ours to know."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if done else None


async def ended(pid: int, created: float) -> None:
    """Wait until the process ends, whoever its parent is."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or gone
        while find(pid, created) is not None:  # noqa: ASYNC110  (there is no event to wait for)
            await asyncio.sleep(0.2)
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        if find(pid, created) is not None:  # else the number was given to another before we held it
            await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def stop(installation: str, instance_id: InstanceId, *, leader: Leader, grace: float) -> None:
    """End every process of an instance: SIGTERM, and after ``grace`` seconds SIGKILL, until none is left."""
    deadline = loop_now() + grace
    told: set[psutil.Process] = set()
    while alive := await asyncio.to_thread(members, installation, instance_id, leader):
        now = loop_now()
        if now > deadline + KILL_PATIENCE:
            log.error("processes cannot be killed", instance=instance_id, pids=[p.pid for p in alive])
            return
        if now >= deadline:
            send(alive, signal.SIGKILL)
        else:
            send([p for p in alive if p not in told], signal.SIGTERM)
            told.update(alive)
        await _until_gone(alive, min(deadline, now + 1.0) if now < deadline else now + 1.0)
    if leader.pid:
        reap(leader.pid)


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Signal each one that is still there."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


async def _until_gone(processes: Sequence[psutil.Process], deadline: float) -> None:
    while not all(gone(process) for process in processes) and loop_now() < deadline:  # noqa: ASYNC110  (no event)
        await asyncio.sleep(POLL)


def leader(pid: int, began: float, processes: Sequence[Marked]) -> Leader | None:
    """The first process of an instance, if it lives: the recorded one; where none is, the one that leads a session."""
    if pid:
        return Leader(pid, began) if find(pid, began) is not None else None
    heads = [each.process.pid for each in processes if each.leads]
    return Leader(heads[0], created(heads[0])) if heads else None


def created(pid: int) -> float:
    """When the process began, seconds since the epoch; now, if it is gone already."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return utc_now().timestamp()

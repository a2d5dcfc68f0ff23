"""A command beside a running process: with its variables, in its directory, within time and size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from gpufn.compute.backend import EXEC_OUTPUT_MAX, ExecResult
from gpufn.compute.process_record import Record
from gpufn.compute.process_tree import COMMAND

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The codes a shell gives for a program that does not exist, or may not be run."""
LAST_WORDS = 0.5
"""Seconds in which the rest of its output is read when it has ended and something it started holds the pipe."""


def place(record: Record) -> tuple[Mapping[str, str], Path] | None:
    """The variables and the directory that an instance was started with; None when it is ending, and not recorded."""
    if record.directory:
        return dict(record.environment), Path(record.directory)
    try:
        first = psutil.Process(record.pid)
        return first.environ(), Path(first.cwd())
    except (psutil.Error, OSError):
        return None


async def run(command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, seconds: float) -> ExecResult:
    """Run it and wait for its end; after ``seconds`` it is killed. What it leaves running is killed as well."""
    ours, its = os.pipe()  # not asyncio's own, with which a process ends only when all that hold the pipe have
    output = _Output()
    async with _reading(ours, output) as read:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment) | {COMMAND: "1"},
                cwd=cwd,
                stdin=DEVNULL,
                stdout=its,
                stderr=its,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            return ExecResult(f"{command[0]}: {error.strerror}\n", NOT_FOUND)
        except (OSError, ValueError) as error:
            return ExecResult(f"{command[0]}: {error}\n", NOT_EXECUTABLE)
        finally:
            os.close(its)
        code = await _ended(process, seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(read.wait(), LAST_WORDS)
    return ExecResult(output.content.decode("utf-8", "replace"), code, truncated=output.truncated)


async def _ended(process: Process, seconds: float) -> int | None:
    """Its exit code, None when time was over; in any case all of it has ended."""
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        _kill(process)
        await process.wait()


@asynccontextmanager
async def _reading(descriptor: int, output: _Output) -> AsyncIterator[asyncio.Event]:
    """Read into ``output``; yields what is set when there is no more. Closes the descriptor."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: output, os.fdopen(descriptor, "rb", buffering=0))
    try:
        yield output.over
    finally:
        transport.close()


class _Output(asyncio.Protocol):
    """The beginning of what a command writes; the rest is read, so that it does not block, and dropped."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.truncated = False
        self.over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        room = EXEC_OUTPUT_MAX - len(self.content)
        self.truncated = self.truncated or len(data) > room
        self.content += data[:room]

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()


def _kill(process: Process) -> None:
    """Everything in its session's first group; nothing when all of it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

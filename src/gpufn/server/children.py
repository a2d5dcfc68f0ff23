"""Child processes that are started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys

from gpufn.model.errors import Fatal
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger
from gpufn.server import lifeline

log = get_logger("up")

START_TIMEOUT = 60.0
STEADY = 30.0
"""Seconds after which a child counts as having started well, so that its next death is not held against it."""


class Child:
    """One role in a process of its own, kept running until ``stop``.

    ``cleans_up``: in stopping it ends what it started, so if it died instead of stopping well it is started once more.
    """

    def __init__(
        self, role: str, settings: bytes, *, descriptors: tuple[int, ...] = (), cleans_up: bool = False
    ) -> None:
        self.role = role
        self._generation = itertools.count()
        self._name = f"{role}-{next(self._generation)}"
        self._cleans_up = cleans_up
        self._changing = asyncio.Lock()
        self._settings = settings
        self._descriptors = descriptors
        self._process: asyncio.subprocess.Process | None = None
        self._retiring: list[asyncio.subprocess.Process] = []
        self._stopping = False
        self._served = False
        self.first_boot = False
        """Whether it said that it made the data directory's admin key."""

    async def start(self) -> None:
        """Start it and wait until it serves. Raises Fatal, with its exit code, when it ends before that."""
        process = self._process = await self._spawn()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the child has no pipes")
        with contextlib.suppress(ConnectionError):  # it died already: its exit code says why
            process.stdin.write(self._settings)
            await process.stdin.drain()
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
        except TimeoutError:
            await self._end(process, signal.SIGTERM, grace=0)
            raise Fatal(f"the {self.role} process did not start within {START_TIMEOUT:.0f} s") from None
        self.first_boot = line == lifeline.READY_FIRST
        if line not in (lifeline.READY, lifeline.READY_FIRST):
            code = await process.wait()
            raise Fatal(f"the {self.role} process ended while starting; its own message is above", exit_code=code or 1)
        self._served = True

    async def _spawn(self) -> asyncio.subprocess.Process:
        arguments = [sys.executable, "-m", "gpufn.server.child", self.role, self._name, *map(str, self._descriptors)]
        try:
            return await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=self._descriptors,
                start_new_session=True,  # Ctrl-C is for us to pass on, in order
            )
        except OSError as error:  # no memory or no process to be had, or the interpreter is just being replaced
            raise Fatal(f"the {self.role} process cannot be started: {error}") from error

    async def keep(self) -> None:
        """Wait for its death, start it again with back-off, and so on until ``stop``."""
        backoff, failures = Backoff(base=0.1, cap=10.0), 0
        while self._process is not None:
            started, process = loop_now(), self._process
            code = await process.wait()
            if self._stopping:
                return
            async with self._changing:  # wait until whoever replaces it has done so
                replaced = process is not self._process
            if replaced:
                continue
            failures = 1 if loop_now() - started > STEADY else failures + 1
            delay = backoff.delay(failures)
            log.error("process died", role=self.role, exit_code=code, restart_in=delay)
            await asyncio.sleep(delay)
            await self._try_to_start()

    async def _try_to_start(self) -> None:
        async with self._changing:
            if not self._stopping:
                await self._start_again()

    async def _start_again(self) -> None:
        try:
            await self.start()
        except Fatal as error:
            log.error("process did not start", role=self.role, error=error.message)

    async def replace(self, *, overlapping: bool, grace: float) -> None:
        """Put a successor in its place: one that serves while the present one finishes what it has (``overlapping``),
        or, where there can be only one, after that has ended within ``grace`` seconds.

        Raises Fatal when the successor does not start; the present one goes on then, or is started again.
        """
        async with self._changing:
            old = self._process
            if old is None or self._stopping:
                return
            self._name = f"{self.role}-{next(self._generation)}"
            if not overlapping:
                await self._end(old, signal.SIGHUP, grace=grace)
                await self.start()
                return
            try:
                await self.start()
            except Fatal:
                self._process = old
                raise
            self._retiring = [p for p in self._retiring if p.returncode is None] + [old]
            _send(old, signal.SIGHUP)

    async def stop(self, *, grace: float) -> None:
        """Ask it to end, and make it after ``grace`` seconds. A start under way is awaited first."""
        async with self._changing:
            self._stopping = True
        ends = [self._end(p, signal.SIGTERM, grace=grace) for p in (self._process, *self._retiring) if p is not None]
        await asyncio.gather(*ends)
        if self._cleans_up and self._served and self._process is not None and self._process.returncode != 0:
            await self._start_again()
            await self._end(self._process, signal.SIGTERM, grace=grace)

    async def _end(self, process: asyncio.subprocess.Process, number: signal.Signals, *, grace: float) -> None:
        _send(process, number)
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            log.warning("process does not end and is killed", role=self.role)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)

"""What keeps a child process tied to the ``gpufn up`` that started it.

The parent writes the settings on the child's standard input and keeps the pipe open. When the pipe ends, however the
parent ended, the child stops too: nothing is left running that nobody owns.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gpufn.settings import Settings

READY, READY_FIRST = b"ready\n", b"ready first-boot\n"
HAND_OVER = signal.SIGHUP.name
"""The reason to stop of a process whose successor goes on with what it has."""
SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def encode(settings: Settings) -> bytes:
    """One line: the effective settings."""
    return json.dumps(asdict(settings), default=_plain).encode() + b"\n"


def receive() -> Settings:
    """The settings that the parent wrote. Reads no byte beyond their line, and leaves the pipe open."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(1)
        line += byte
    return SETTINGS.validate_json(bytes(line))


def await_end() -> asyncio.Future[str]:
    """From now on notice when we are to stop; done then, with the reason. To be called before ``report_ready``."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[str] = loop.create_future()

    def stop(reason: str) -> None:
        if not end.done():
            end.set_result(reason)

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop("the parent has ended")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop, signal.Signals(number).name)
    loop.add_reader(0, read)
    return end


def report_ready(*, first_boot: bool = False) -> None:
    """Tell the parent that we serve."""
    os.write(1, READY_FIRST if first_boot else READY)


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value))

"""How the command line ends: the stable exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. Documented in docs/reference/cli.md; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PORT_IN_USE = 3
    DATA = 4
    NOT_RUNNING = 5
    REFUSED = 6
    NOT_FOUND = 7
    TIMEOUT = 8
    INTERRUPTED = 130


class Failed(Exception):
    """Ends the command: one line with the cause, one with the fix."""

    def __init__(self, cause: str, *, fix: str | None = None, exit: Exit = Exit.FAILED) -> None:
        super().__init__(cause)
        self.cause, self.fix, self.exit = cause, fix, exit


def unreadable(error: Exception) -> str:
    """Why a file cannot be read, without its name and an error number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def exit_of(status: int) -> Exit:
    """The exit code for an HTTP status by which the platform itself refused."""
    match status:
        case 401 | 403:
            return Exit.REFUSED
        case 404:
            return Exit.NOT_FOUND
        case 408 | 504:
            return Exit.TIMEOUT
        case _:
            return Exit.FAILED

"""Commands beside an instance: gpufn's own body, and ngcsdk's (clusters page, section 8)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpufn.wire.base import Wire

SECONDS, SECONDS_MAX = 60, 300
"""How long a command may take: unless told otherwise, and at most."""
Text = Annotated[str, Field(min_length=1, max_length=65_536)]


class ExecRequest(Wire):
    """``command``: words, run as they are, or one text for ``/bin/sh -c``."""

    command: Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=1024)]
    timeout_seconds: Annotated[int, Field(ge=1, le=SECONDS_MAX)] = SECONDS

    def words(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return ("/bin/sh", "-c", self.command) if isinstance(self.command, str) else self.command


class ShellRequest(Wire):
    """What ngcsdk sends."""

    command: Text

    def words(self) -> tuple[str, ...]:
        """The program and its arguments: always through a shell."""
        return ("/bin/sh", "-c", self.command)


class ExecResponse(Wire):
    """``output``: standard output and error together, its beginning when ``truncated``. No ``exitCode``: it took too
    long.
    """

    instance_id: str
    output: str
    exit_code: int | None = None
    timed_out: bool
    truncated: bool

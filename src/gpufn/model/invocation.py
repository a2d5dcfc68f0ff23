"""Invocations that were accepted: their client was answered 202, so they are kept until their outcome was fetched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

NOBODY = "nobody"
"""The owner of what a gateway that stopped has left to the others."""


ARCHIVE = ".zip"
LINK_SECONDS = 2040
"""For which a URL of a result is good (invocation-plane page, section 7.5: 34 minutes)."""


def archive_key(invocation_id: str, name: str) -> str:
    """The key of a result that is kept as a zip."""
    return f"invocations/{invocation_id}/{name}{ARCHIVE}"


@dataclass(frozen=True)
class Body:
    """Bytes of a request or a result: in the row when there are few, else in the object store under ``key``."""

    size: int
    content: bytes = b""
    key: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether it is a zip that the client is given a URL of."""
        return self.key is not None and self.key.endswith(ARCHIVE)


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended, as a poll is told: HTTP status, header lines, body."""

    status: int
    lines: tuple[bytes, ...]
    body: Body


ABANDONED = Outcome(0, (), Body(0))
"""Nobody asked for it for so long that it was cancelled; there is nothing to deliver."""


@dataclass(frozen=True)
class AcceptedInvocation:
    """One accepted invocation, with all that is needed to make the call again."""

    id: str
    nca_id: str
    """The caller's account."""
    function_id: str
    version_id: str
    form: str
    """How the client called, and is answered: ``pexec``."""
    head: bytes
    """Header lines for the instance, each with its line end."""
    request: Body
    window: int
    """Seconds of the first call's ``NVCF-POLL-SECONDS``."""
    accepted_at: datetime
    deadline: datetime
    """When it ends with an error, if it has not ended before."""
    owner: str
    """The incarnation of the gateway that runs it, or hands out its result; NOBODY while it waits for one; empty when
    nothing is left to do."""
    fence: int
    """Grows with every change of owner and every new attempt. Who holds an older one may not finish it."""
    attempt: int
    """1 for the first time that it is given to an instance."""
    note: str = ""
    """Why the last attempt failed."""
    outcome: Outcome | None = None
    finished_at: datetime | None = None
    delivered_at: datetime | None = None

"""What can go wrong, in the words of a user. Raised anywhere; turned into HTTP in two places only:
``api/problems.py`` and ``gateway/problems.py``.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The kinds of refusal. The HTTP status is looked up at the edge."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"


class PlatformError(Exception):
    """A refusal whose message may be shown: it names the field, the cause and the remedy."""

    code = Code.INVALID

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class Invalid(PlatformError):
    """The request cannot be carried out as it was written."""

    code = Code.INVALID


class Unauthenticated(PlatformError):
    """Nobody we know is calling."""

    code = Code.UNAUTHENTICATED


class Forbidden(PlatformError):
    """The caller is known and may not do this."""

    code = Code.FORBIDDEN


class NotFound(PlatformError):
    """There is no such thing in the caller's account."""

    code = Code.NOT_FOUND


class Conflict(PlatformError):
    """The thing is in a state that does not allow this."""

    code = Code.CONFLICT


class Stale(Conflict):
    """Somebody else changed it between our reading and our writing. The caller may read again and retry."""


class Exhausted(PlatformError):
    """A limit is reached; later it may work."""

    code = Code.EXHAUSTED


class Unavailable(PlatformError):
    """A part of the platform cannot serve now; retrying may help."""

    code = Code.UNAVAILABLE


class OutcomeUnknown(Unavailable):
    """A part of the platform went away in the middle of a change, which may or may not have happened."""


class Timeout(PlatformError):
    """It did not happen within the time the caller gave."""

    code = Code.TIMEOUT


class Fatal(Exception):
    """The program cannot start or go on; ``message`` says why and what to do. Ends the process with ``exit_code``."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code

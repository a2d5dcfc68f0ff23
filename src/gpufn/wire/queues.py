"""How many requests wait (control-plane page, section 14)."""

from __future__ import annotations

from gpufn.wire.base import Wire


class QueueDto(Wire):
    """One version's queue."""

    function_version_id: str
    function_name: str
    function_status: str
    queue_depth: int


class QueuesResponse(Wire):
    """The queues of a function."""

    function_id: str
    queues: tuple[QueueDto, ...]

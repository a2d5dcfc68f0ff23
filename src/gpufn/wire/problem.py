"""The error body of the control plane: RFC 7807 (control-plane page, section 3)."""

from __future__ import annotations

from gpufn.wire.base import Wire


class ProblemDetail(Wire):
    """``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    instance: str

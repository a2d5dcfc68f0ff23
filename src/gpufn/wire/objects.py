"""Paths under which the installation serves what it keeps, to whoever holds a URL made for it."""

from __future__ import annotations

RESULTS = "/v2/gpufn/objects/results/{requestId}"
"""The zip of a large result."""


def result_path(request_id: str) -> str:
    """Where the result of that request is."""
    return RESULTS.replace("{requestId}", request_id)

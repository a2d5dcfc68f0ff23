"""For every test."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Say that there is no event loop yet: else the first look for one makes one that nobody closes."""
    asyncio.set_event_loop(None)

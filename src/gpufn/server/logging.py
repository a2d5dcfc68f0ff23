"""The platform's own log, as the settings want it."""

from __future__ import annotations

from gpufn.model.errors import Fatal
from gpufn.runtime import log
from gpufn.settings import LogSettings

FORMATS = {"auto": None, "text": False, "json": True}
LEVELS = ("debug", "info", "warning", "error")


def configure(settings: LogSettings) -> None:
    """Set up logging; raises Fatal for values that mean nothing."""
    if settings.level not in LEVELS:
        raise Fatal(f"log.level = {settings.level!r}: use one of {', '.join(LEVELS)}", exit_code=2)
    if settings.format not in FORMATS:
        raise Fatal(f"log.format = {settings.format!r}: use one of {', '.join(FORMATS)}", exit_code=2)
    log.configure(level=settings.level, json=FORMATS[settings.format])

"""What the command line writes: results to standard output, everything else to standard error.

Text that comes from elsewhere (names, logs, results) may hold control characters; on its way to a terminal they are
made visible, so that nothing can move the cursor or fake a line.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_COLOR = re.compile(
    r"\x1b(?!\[[0-9;]{0,32}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
GREEN, YELLOW, RED, BOLD = "32", "33", "31", "1"
COLORS = {
    "ACTIVE": GREEN,
    "COMPLETED": GREEN,
    "RUNNING": GREEN,
    "ready": GREEN,
    "works": GREEN,
    "DEPLOYING": YELLOW,
    "QUEUED": YELLOW,
    "LAUNCHED": YELLOW,
    "DEGRADING": YELLOW,
    "starting": YELLOW,
    "pending": YELLOW,
    "DEGRADED": RED,
    "ERROR": RED,
    "ERRORED": RED,
    "errored": RED,
    "unhealthy": RED,
}


def safe(text: str, *, colors: bool = False) -> str:
    """``text`` with control characters made visible; line ends and tabs stay. ``colors`` also keeps colour codes."""
    return (_NOT_COLOR if colors else _CONTROL).sub(lambda m: m[0].encode("unicode_escape").decode(), text)


class Console:
    """Standard output and standard error, and whether they are terminals."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, *, color: bool = True) -> None:
        self.out, self.err = out or sys.stdout, err or sys.stderr
        self.tty = self.out.isatty()
        self.err_tty = self.err.isatty()
        self._color = color and self.tty
        self._progress = ""

    def line(self, text: str = "") -> None:
        """One line of the result."""
        self._write(safe(text) + "\n")

    def json(self, value: object) -> None:
        """The result as JSON: indented for people, one line otherwise."""
        self._write(json.dumps(value, indent=2 if self.tty else None, ensure_ascii=self.tty) + "\n")

    def log(self, text: str) -> None:
        """A line that a function wrote: as it is, or made harmless for a terminal."""
        self._write((safe(text, colors=self._color) if self.tty else text) + "\n")

    def raw(self, data: bytes) -> None:
        """Part of a result, at once and exactly; on a terminal made harmless."""
        if self.tty:
            self._write(safe(data.decode(errors="replace")))
            return
        self.out.flush()
        buffer = getattr(self.out, "buffer", None)
        if buffer is None:
            self._write(data.decode(errors="replace"))
            return
        buffer.write(data)
        buffer.flush()

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns, aligned; plain where standard output is no terminal."""
        cells = [[safe(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in (head, *rows)]
        widths = [max(_width(row[n]) for row in cells) for n in range(len(head))]
        for number, row in enumerate(cells):
            painted = [
                self._paint(cell, BOLD if number == 0 else COLORS.get(cell, "")) + " " * (width - _width(cell))
                for cell, width in zip(row, widths, strict=True)
            ]
            self._write("  ".join(painted).rstrip() + "\n")

    def note(self, text: str) -> None:
        """One line beside the result, on standard error."""
        self.clear()
        self._tell(safe(text) + "\n")

    def progress(self, text: str, elapsed: float) -> None:
        """What is going on: one updating line on a terminal, otherwise a line per change."""
        if self.err_tty:
            self._tell(f"\r\x1b[K{safe(text)} · {elapsed:.1f} s")
        elif text != self._progress:
            self._tell(f"{safe(text)} · {elapsed:.1f} s\n")
        self._progress = text

    def clear(self) -> None:
        """Take the updating line away."""
        if self._progress and self.err_tty:
            self._tell("\r\x1b[K")
        self._progress = ""

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if color and self._color else text

    def _write(self, text: str) -> None:
        self.out.write(_encodable(text, self.out))
        self.out.flush()

    def _tell(self, text: str) -> None:
        self.err.write(_encodable(text, self.err))
        self.err.flush()


def _encodable(text: str, stream: TextIO) -> str:
    """``text`` with what the stream's encoding lacks (a C locale, say) written as escapes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def _width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)

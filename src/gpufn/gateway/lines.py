"""Header lines, each read once: clients and instances send the same ones over and over.

A line that was accepted is remembered with what it means, so that the next head with it costs one look-up instead of
a match. What is remembered is bounded, in lines and in their length, and no line that carries a credential ever is.
"""

from __future__ import annotations

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rb"[\t\x20-\x7e\x80-\xff]"
FIELD = re.compile(rb"(" + TOKEN + rb"+):(" + VALUE + rb"*)")
SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"sec-websocket-protocol"})
"""Fields whose lines are read anew each time: what they carry is to be gone when the request is."""
REMEMBERED = 2048
"""Lines that are remembered; when there are more, all are forgotten."""
LONGEST = 160
"""Longest line, in bytes, that is remembered."""


class Field:
    """What a line says."""

    __slots__ = ("named", "noted", "plain", "value")

    def __init__(self, name: bytes, line: bytes, value: bytes, *, plain: bool, noted: bool) -> None:
        self.plain = plain
        """Whether it means nothing to the gateway."""
        self.named = name, line
        """The name in lower case, and the line as it came."""
        self.noted = noted
        """Whether the gateway acts upon the value."""
        self.value = value
        """Without the space around it."""


class Lines:
    """Reads the lines of one kind of head. Fields not in ``special`` are plain; the values of ``noted`` are kept."""

    def __init__(self, special: frozenset[bytes], noted: frozenset[bytes]) -> None:
        self._special = special
        self._noted = noted
        self.known: dict[bytes, Field] = {}
        """What was read before. Look here first, then ``read``."""

    def __repr__(self) -> str:
        return f"<Lines remembered={len(self.known)}>"

    def read(self, line: bytes) -> Field | None:
        """What ``line`` says, without its end; None when it is no header line (RFC 9112, section 5)."""
        match = FIELD.fullmatch(line)
        if match is None:
            return None
        written, value = match.groups()
        name = written.lower()
        plain = name not in self._special
        field = Field(name, line, value.strip(b" \t"), plain=plain, noted=name in self._noted)
        if len(line) <= LONGEST and name not in SECRET:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            self.known[line] = field
        return field

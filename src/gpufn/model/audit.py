"""The audit log: who changed what, when, and how it ended. Each record is sealed with a hash over itself and the seal
before it, so that none can be changed, taken out or put in between without breaking the chain. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime

BEGINNING = "0" * 64
"""In place of the seal before the first record."""
PATH_MAX = 512


@dataclass(frozen=True)
class AuditRecord:
    """One request that meant to change something. Bodies are not kept: they may hold secrets."""

    seq: int
    """Counts from 1, without gaps."""
    at: datetime
    nca_id: str
    """The account in which it was done."""
    subject: str
    """The caller: the owner of the key, or the client of the token."""
    key_id: str
    """The API key, also that of a token; empty for a token of another issuer."""
    method: str
    path: str
    status: int
    """The HTTP status it was answered with."""
    seal: str = ""
    """SHA-256 in hexadecimal."""

    def sealed(self, before: str) -> AuditRecord:
        """The record with its seal after the one ``before``."""
        at = self.at.astimezone(UTC).isoformat()
        content = json.dumps([before, *astuple(replace(self, at=at, seal=""))[:-1]], ensure_ascii=True)  # type: ignore[arg-type]
        return replace(self, seal=hashlib.sha256(content.encode()).hexdigest())


def broken(records: Iterable[AuditRecord], *, before: AuditRecord | None = None) -> str | None:
    """What is wrong with the chain that follows ``before``, at its first bad place; None when it is whole."""
    seq, seal = (before.seq, before.seal) if before is not None else (0, BEGINNING)
    for record in records:
        if record.seq != seq + 1:
            return f"record {seq + 1} is missing: {record.seq} follows {seq}"
        if record.sealed(seal).seal != record.seal:
            return f"record {record.seq} was changed, or what lies before it: its seal does not fit"
        seq, seal = record.seq, record.seal
    return None

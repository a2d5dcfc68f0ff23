"""The audit log on the wire. gpufn's own."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime

from gpufn.model.audit import AuditRecord
from gpufn.wire.base import Wire


class AuditDto(Wire):
    """One record; its time is exact, as its seal is made over it."""

    seq: int
    at: AwareDatetime
    nca_id: str
    subject: str
    key_id: str
    method: str
    path: str
    status: int
    seal: str

    @staticmethod
    def of(record: AuditRecord) -> AuditDto:
        return AuditDto(**{name: getattr(record, name) for name in AuditDto.model_fields})

    def to_model(self) -> AuditRecord:
        at: datetime = self.at
        return AuditRecord(**{**{name: getattr(self, name) for name in AuditDto.model_fields}, "at": at})


class AuditResponse(Wire):
    """Records in order; fewer than were asked for at the end of the log."""

    records: tuple[AuditDto, ...]

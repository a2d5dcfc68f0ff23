"""The audit log. Records are appended, never changed and never removed."""

from __future__ import annotations

import sqlalchemy as sa

from gpufn.model.audit import BEGINNING, AuditRecord
from gpufn.store.tables import audit as table

_LAST = sa.select(table.c.seq, table.c.seal).order_by(table.c.seq.desc()).limit(1)


def append(tx: sa.Connection, record: AuditRecord) -> None:
    """Seal a record after the last one and keep it; its ``seq`` is given here."""
    if tx.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        tx.execute(sa.text("LOCK TABLE audit IN EXCLUSIVE MODE"))
    last = tx.execute(_LAST).first()
    values = {c.name: getattr(record, c.name) for c in table.columns} | {"seq": 1 if last is None else last.seq + 1}
    sealed = AuditRecord(**values).sealed(BEGINNING if last is None else last.seal)
    tx.execute(table.insert(), {**values, "seal": sealed.seal})


def after(tx: sa.Connection, seq: int, *, limit: int) -> list[AuditRecord]:
    """The records that follow ``seq``, in order."""
    query = table.select().where(table.c.seq > seq).order_by(table.c.seq).limit(limit)
    return [AuditRecord(**row._mapping) for row in tx.execute(query)]

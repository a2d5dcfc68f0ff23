"""The chain of the audit log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, strategies as st

from gpufn.model.audit import BEGINNING, AuditRecord, broken

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def a_log(length: int) -> list[AuditRecord]:
    records, seal = [], BEGINNING
    for seq in range(1, length + 1):
        record = AuditRecord(seq, NOW + timedelta(seconds=seq), "acme", "admin", "k", "POST", f"/{seq}", 200)
        records.append(record.sealed(seal))
        seal = records[-1].seal
    return records


CHANGES: dict[str, Any] = {
    "at": NOW,
    "nca_id": "other",
    "subject": "nobody",
    "key_id": "",
    "method": "GET",
    "path": "/elsewhere",
    "status": 403,
    "seal": "f" * 64,
}


@given(st.integers(1, 12), st.data())
def test_any_change_of_any_record_breaks_the_chain(length: int, data: st.DataObject) -> None:
    """Whole as it was written; not after a change, a removal before the end, a repetition or a swap."""
    log = a_log(length)
    place = data.draw(st.integers(0, length - 1))
    field = data.draw(st.sampled_from(sorted(CHANGES)))
    changed = [*log]
    changed[place] = replace(log[place], **{field: CHANGES[field]})

    assert broken(log) is None
    assert broken(changed) is not None
    assert broken([*log[: place + 1], *log[place:]]) is not None
    assert place == length - 1 or broken(log[:place] + log[place + 1 :]) is not None
    assert place == 0 or broken([*log[: place - 1], log[place], log[place - 1], *log[place + 1 :]]) is not None


def test_a_record_resealed_after_a_change_is_found_by_the_next_one() -> None:
    """Whoever changes one record must change all that follow, and the seal that somebody noted."""
    log = a_log(3)
    log[0] = replace(log[0], status=500).sealed(BEGINNING)

    assert "record 2" in (broken(log) or "")


def test_the_chain_goes_on_after_a_page() -> None:
    """Pages are checked one after the other."""
    log = a_log(5)

    assert broken(log[3:], before=log[2]) is None
    assert "missing" in (broken(log[4:], before=log[2]) or "")

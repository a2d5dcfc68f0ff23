"""``gpufn audit`` against a fake installation."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fake_api import FakeApi, serving
from running import against

from gpufn.model.audit import BEGINNING, AuditRecord
from gpufn.wire.audit import AuditDto


def a_log(length: int) -> list[dict[str, Any]]:
    found, seal = [], BEGINNING
    for seq in range(1, length + 1):
        record = AuditRecord(seq, datetime(2026, 1, 1, tzinfo=UTC), "a", "s", "k", "POST", "/x", 200).sealed(seal)
        seal = record.seal
        found.append(AuditDto.of(record).model_dump(mode="json", by_alias=True))
    return found


def test_a_whole_log_is_whole_in_place_and_exported(tmp_path: Path) -> None:
    """All pages are fetched; the last seal is printed, and found again when it is asked for."""
    log = a_log(1003)
    with serving(FakeApi(audit=log)) as api:
        here = against(api, "audit", "verify", "--json")
        exported = against(api, "audit", "export")
        file = tmp_path / "log.jsonl"
        file.write_text(exported.out)
        there = against(api, "audit", "verify", str(file), "--seal", log[5]["seal"])
        stranger = against(api, "audit", "verify", "--seal", "0" * 64)

    assert here.json == {"records": 1003, "seal": log[-1]["seal"]}
    assert (there.code, there.out) == (0, f"1003 records, whole; last seal {log[-1]['seal']}\n")
    assert stranger.code == 1


def test_a_changed_log_is_not(tmp_path: Path) -> None:
    """A changed record, a missing one and junk are named, with exit 1 and 2."""
    log = a_log(4)
    changed = [*log[:2], {**log[2], "subject": "nobody"}, log[3]]
    junk, other = tmp_path / "junk", tmp_path / "other"
    junk.write_text("not json\n")
    other.write_text(json.dumps({"seq": 1}) + "\n")
    with serving(FakeApi(audit=changed)) as api:
        edited = against(api, "audit", "verify")
        bad = against(api, "audit", "verify", str(junk))
        strange = against(api, "audit", "verify", str(other))
    with serving(FakeApi(audit=[log[0], *log[2:]])) as api:
        missing = against(api, "audit", "verify")

    assert (edited.code, bad.code, strange.code, missing.code) == (1, 2, 1, 1)
    assert "record 3" in edited.err
    assert "record 2 is missing" in missing.err

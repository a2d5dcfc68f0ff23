"""``gpufn audit``: the audit log, checked and exported. The chain is checked here, not where it is kept."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options
from gpufn.model.audit import AuditRecord, broken

PATH = "/v2/gpufn/audit"
PAGE = 1000
EXPORTED = "use what `gpufn audit export` wrote"


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with the audit log."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    exporting = verbs.add_parser("export", help="print every record, one JSON object per line")
    verifying = verbs.add_parser("verify", help="check that no record was changed, removed or slipped in")
    verifying.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what `export` wrote (default: the log)")
    verifying.add_argument("--seal", metavar="SEAL", help="a seal noted earlier, which must be in the log")
    for sub, run in ((exporting, export), (verifying, verify)):
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def export(session: Session) -> int:
    """Print the log."""
    for record in _fetched(session):
        session.console.line(json.dumps(record))
    return 0


def verify(session: Session) -> int:
    """Check the chain, and say where it ends: a seal to note, for the next time."""
    args = session.args
    to_model: Any = importlib.import_module("gpufn.wire.audit").AuditDto.model_validate
    found = _read(args.file) if args.file else _fetched(session)
    last: AuditRecord | None = None
    noted = args.seal is None
    for raw in found:
        try:
            record: AuditRecord = to_model(raw).to_model()
        except ValueError as error:
            raise Failed(f"this is no audit record: {str(raw)[:200]}", fix=EXPORTED) from error
        problem = broken([record], before=last)
        if problem is not None:
            raise Failed(problem, fix="compare with an export made earlier; restore the database from a copy")
        last = record
        noted = noted or record.seal == args.seal
    if not noted:
        raise Failed(f"no record has the seal {args.seal}", fix="the log was replaced, or the seal is of another one")
    count, seal = (last.seq, last.seal) if last is not None else (0, "")
    if args.json:
        session.console.json({"records": count, "seal": seal})
    else:
        session.console.line(f"{count} records, whole; last seal {seal or '-'}")
    return 0


def _fetched(session: Session) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        page = session.client.get(PATH, after=str(after), limit=str(PAGE))["records"]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["seq"]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open() as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}", fix=EXPORTED, exit=Exit.USAGE) from error

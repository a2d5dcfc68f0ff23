"""``gpufn status``: what runs, what waits, and what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from gpufn.cli import phases, targets
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.errors import Refused
from gpufn.client.reference import Version, is_deployed

WRONG = ("unhealthy", "errored")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Show the installation, its functions, and a reason for each that does not serve as it should."""
    installation = session.client.get("/v2/gpufn/status")
    listing = session.client.get(f"{targets.FUNCTIONS}?visibility=private,public")["functions"]
    rows = [_look(session, v) for v in listing if not v.get("ownedByDifferentAccount")]
    if session.args.json:
        session.console.json({"url": session.endpoint.url, "installation": installation, "functions": rows})
        return 0
    console = session.console
    console.line(f"url       {session.endpoint.url}")
    for name, value in _facts(installation):
        console.line(f"{name:9} {value}")
    console.line()
    console.table(
        ("NAME", "ID", "VERSION", "STATUS", "INSTANCES", "QUEUE"),
        sorted(
            (
                r["name"],
                r["id"],
                r["versionId"],
                r["status"],
                r["summary"],
                "" if r["queue"] is None else str(r["queue"]),
            )
            for r in rows
        ),
    )
    for row in rows:
        for reason in row["reasons"]:
            console.line(f"{row['name']}: {reason}")
    return 0


def _look(session: Session, version: Version) -> dict[str, Any]:
    found = targets.instances(session, version) if is_deployed(version) else []
    return {
        "name": version["name"],
        "id": version["id"],
        "versionId": version["versionId"],
        "status": version["status"],
        "instances": found,
        "summary": phases.of_instances(found) if is_deployed(version) else "",
        "queue": _queue(session, version) if is_deployed(version) else None,
        "reasons": list(reasons(version, found)),
    }


def _queue(session: Session, version: Version) -> int | None:
    """Requests that wait; None where the version has no queue (control-plane page, section 14)."""
    try:
        queues = session.client.get(f"/v2/nvcf/queues/functions/{targets.path_of(version)}")["queues"]
    except Refused as error:
        if error.status == 404:
            return None
        raise
    return sum(int(queue["queueDepth"]) for queue in queues)


def reasons(version: Version, found: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Why a version is not simply ACTIVE, and what ails instances of one that is; each reason once, newest first.

    What failed in an ACTIVE version is history, unless nothing runs and nothing has ended well since.
    """
    newest = sorted(found, key=lambda i: str(i.get("endedAt") or i.get("createdAt") or ""), reverse=True)
    ailing = [i for i in newest if _status(i) in WRONG]
    if version["status"] == "ACTIVE" and any(_status(i) != "errored" for i in newest):
        fails_now = not any(_status(i) == "ready" for i in newest) and _status(newest[0]) == "errored"
        ailing = [i for i in ailing if _status(i) != "errored" or fails_now]
    texts = [targets.failure_text(i) or str(i.get("detail") or "") for i in ailing]
    return list(dict.fromkeys(text for text in texts if text))[:3]


def _status(instance: dict[str, Any]) -> str:
    return str(instance.get("status", "")).lower()


def _facts(installation: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "version", str(installation.get("version", "unknown"))
    if "uptimeSeconds" in installation:
        yield "up for", f"{float(installation['uptimeSeconds']):.0f} s"
    for backend in (*filter(None, [installation.get("database")]), *installation.get("backends", ())):
        works = "works" if backend.get("working") else "does not work"
        detail = backend.get("detail")
        yield str(backend.get("name", "backend")), works + (f": {detail}" if detail else "")

"""``gpufn task results``: what a task left behind, listed or fetched."""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path, PurePosixPath
from typing import Any

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session
from gpufn.client.errors import Refused, refusal
from gpufn.client.http import Call
from gpufn.client.tasks import elements, find, path_of

ATTEMPTS = 10
"""How often a file is asked for when the answer is 429."""
PAUSE_SECONDS = 0.5


def options(parser: argparse.ArgumentParser) -> None:
    """Where to put the files."""
    parser.add_argument("--to", type=Path, metavar="DIR", help="fetch every file, into DIR/RESULT/")


def run(session: Session) -> int:
    """List the results with their files, or fetch them."""
    found = _results(session)
    if session.args.to is not None:
        for result in found:
            for file in result["files"]:
                file["savedAs"] = str(_fetch(session, result, file))
    if session.args.json:
        session.console.json({"results": found})
        return 0
    rows = [(r["name"], f["path"], str(f["size"]), f.get("savedAs", "")) for r in found for f in r["files"]]
    session.console.table(("RESULT", "FILE", "BYTES", "SAVED AS"), rows)
    return 0


def _results(session: Session) -> list[dict[str, Any]]:
    """Every result, each with its ``files``."""
    task = find(session.client, session.args.task)
    found = list(elements(session.client, f"{path_of(task)}/results", "results"))
    for result in found:
        result["files"] = list(elements(session.client, _url(result), "files"))
    return found


def _url(result: dict[str, Any]) -> str:
    return f"/v2/gpufn/tasks/{result['taskId']}/results/{result['resultId']}/files"


def place(directory: Path, result: str, path: str) -> Path:
    """Where a file of a result goes; raises Failed for names that would lead out of ``directory``."""
    inner = PurePosixPath(result) / path
    if inner.is_absolute() or ".." in inner.parts or not path or "\0" in str(inner):
        raise Failed(
            f"the result file {path!r} of {result!r} would be written elsewhere", fix="do not trust this server"
        )
    return directory.expanduser() / inner


def _fetch(session: Session, result: dict[str, Any], file: dict[str, Any]) -> Path:
    """Save one file. It appears under its name when all of it is there, and is what the server kept."""
    goal = place(session.args.to, result["name"], file["path"])
    partial = goal.with_name(goal.name + ".part")
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        digest = _save(session, f"{_url(result)}/{file['number']}", partial)
        if digest != file["sha256"]:
            partial.unlink()
            raise Failed(f"{file['path']}: what arrived is not what was kept", fix="run the command again")
        partial.replace(goal)
    except OSError as error:
        raise Failed(f"{goal} cannot be written: {error}", fix="choose another --to", exit=Exit.DATA) from error
    return goal


def _save(session: Session, url: str, to: Path) -> str:
    """Write the content to ``to``; its SHA-256. Too many requests are sent again, more slowly."""
    left = ATTEMPTS
    while True:
        try:
            return _save_once(session, url, to)
        except Refused as error:
            left -= 1
            if error.status != 429 or not left:
                raise
        time.sleep(PAUSE_SECONDS)


def _save_once(session: Session, url: str, to: Path) -> str:
    digest = hashlib.sha256()
    with session.client.open(Call("GET", url)) as answer:
        if answer.status != 200:
            raise refusal(answer.status, answer.reason, answer.read())
        with to.open("wb") as out:
            for piece in answer.chunks():
                digest.update(piece)
                out.write(piece)
    return digest.hexdigest()

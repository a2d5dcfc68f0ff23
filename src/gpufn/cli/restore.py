"""``gpufn restore``: what a backup holds, into an empty installation."""

from __future__ import annotations

import argparse
import importlib
import shlex
from dataclasses import asdict
from pathlib import Path

from gpufn.cli.backup import settings_options
from gpufn.cli.session import Session
from gpufn.settings import load


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that `gpufn backup` wrote")
    settings_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Restore; the installation must not run, and nothing is overwritten."""
    args = session.args
    settings = load({"data": args.data}, config=args.config).settings
    work = importlib.import_module("gpufn.server.backup")  # only here: nothing else may load the server
    put = work.restore(settings, args.file.absolute())
    if args.json:
        session.console.json({"data": str(settings.data), **asdict(put)})
        return 0
    session.console.line(
        f"{settings.data}  {put.rows} rows, {put.objects} objects, {put.files} files of {put.created_at}"
    )
    where = "" if args.data is None else f" --data {shlex.quote(str(args.data))}"
    session.console.note(f"start it with `gpufn up{where}`; its keys are those of the backup")
    return 0
